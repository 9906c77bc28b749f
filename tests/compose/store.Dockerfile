# An S3 server over the folder /data that keeps its files when it is started again, for machines without an image of MinIO.
# Build context: tests/chaos.
ARG MULTIFACET_IMAGE=multifacet:latest
FROM ${MULTIFACET_IMAGE}
COPY store_server.py /opt/store/store_server.py
ENV PYTHONPATH=/opt/store
ENTRYPOINT ["python", "-c", "from pathlib import Path; from aiohttp import web; from store_server import FolderStore; web.run_app(FolderStore(Path('/data')).application(), host='0.0.0.0', port=9000, print=None)"]
