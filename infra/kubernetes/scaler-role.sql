-- A user for KEDA that can read the demand of the pools and nothing else. Run it in Multifacet's database, as the owner of its tables,
-- once the migrations have made the view:
--   psql "$DATABASE" --set password="$SCALER_PASSWORD" --file infra/kubernetes/scaler-role.sql
CREATE ROLE multifacet_scaler LOGIN PASSWORD :'password' CONNECTION LIMIT 30;
GRANT SELECT ON pool_demand TO multifacet_scaler;
