"""The one protocol spoken to model servers, and its adapters: TGI, OpenAI-compatible servers, the CPU server."""
