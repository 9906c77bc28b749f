"""Where a deployment is spoken to: at the server that a launcher reported, or at the provider that the operator configured."""

from shared.domain.deployments import ServingModel
from shared.domain.jobs import ModelChoice
from shared.llm.providers import Providers
from shared.llm.servers.protocol import ServerAddress, ServerKind


def address_of(serving: ServingModel, providers: Providers) -> ServerAddress:
    """The address of a deployment that answers.

    Raises InputRefused for a provider or model that is not configured (any more), StepFailed where its key or address is
    missing in this process's environment.
    """
    target = serving.target
    if target.provider is not None and target.model is not None:
        resolved = providers.require(ModelChoice(provider=target.provider, model=target.model), "/target")
        return ServerAddress(
            ServerKind.OPENAI,
            resolved.base_url(),
            target.model,
            resolved.api_key(),
            output_limit_parameter=resolved.provider.output_limit_parameter,
            structured_output=resolved.provider.structured_output == "json_schema",
        )
    if serving.server_kind is None or serving.server_address is None:
        raise ValueError(f"the deployment {serving.name} has no server")
    # A server holds one model, whatever it is called; adapters beside it are called as their deployment is.
    return ServerAddress(
        ServerKind(serving.server_kind), serving.server_address, serving.name, is_adapter=serving.is_adapter
    )
