FROM python:3.13-slim

LABEL org.opencontainers.image.title="MNIST Digit Classifier" \
      org.opencontainers.image.description="Draw a digit in the browser and a PyTorch network says which it is" \
      org.opencontainers.image.base.name="docker.io/library/python:3.13-slim"

# PyTorch's CPU builds carry a local version (2.14.1+cpu). It sorts above the plain one, so pip prefers it and the pins
# hold. A closed network names its own index: --build-arg TORCH_INDEX=...
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PATH=/opt/venv/bin:$PATH

# A new volume takes the owner of the folder that it is mounted on: what learn.py writes.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin app \
 && install -d -o app -g app /learnt
WORKDIR /app

# Dependencies first: a change of code installs nothing again.
COPY requirements.txt requirements.lock ./
RUN python -m venv --without-pip /opt/venv \
 && pip --python /opt/venv install --no-cache-dir --disable-pip-version-check --progress-bar off \
      --extra-index-url "$TORCH_INDEX" -r requirements.txt -c requirements.lock

# Readable to the app's user whatever the umask of whoever cloned this.
COPY --chmod=755 .streamlit/ .streamlit/
COPY --chmod=755 page/ page/
COPY --chmod=755 store/ store/
COPY --chmod=755 training/ training/
COPY --chmod=755 serve.py app.py utils.py model.py db.py learn.py train.py evaluate.py model.pth model.json ./

USER 10001
EXPOSE 8501
# A slim image has no curl.
HEALTHCHECK --interval=5s --timeout=10s --start-period=2m --retries=5 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=9)"]
CMD ["streamlit", "run", "serve.py", "--server.address=0.0.0.0", "--server.port=8501", "--server.headless=true", \
     "--browser.serverAddress=localhost"]
