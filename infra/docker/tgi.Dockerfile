# Text Generation Inference behind our launcher: one file of the standard library is added. Build context: the repository's root.
ARG TGI_IMAGE=ghcr.io/huggingface/text-generation-inference:3.3.7
FROM ${TGI_IMAGE}
COPY services/inference/launcher.py /opt/multifacet/launcher.py
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["python3", "/opt/multifacet/launcher.py"]
CMD ["--kind=tgi", "--cache=/inference"]
