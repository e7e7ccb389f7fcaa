"""What the README shows is what works."""

import os
import re
import subprocess
import sys

from conftest import ROOT

README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def here(installation, text):
    text = text.replace(".atelier/api-key", str(installation.data / "api-key"))
    return text.replace("http://127.0.0.1:8080", installation.url)


def test_the_python_example(installation):
    (example,) = blocks("python")
    done = subprocess.run([sys.executable, "-c", here(installation, example)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    *kinds, answer = done.stdout.splitlines()
    assert kinds[0] == "response.created" and kinds[-1] == "stream.completed"
    assert answer.endswith("Create a Flask API and run it")


def test_the_curl_examples(installation, client):
    first, second = [block for block in blocks("sh") if "curl -N" in block]
    thread = client.run("Anything").thread_id
    for example, wanted in ((first, "event: thread.created"), (second, "event: stream.ready")):
        environment = os.environ | {"THREAD": thread, "API_KEY": installation.key}
        command = ["bash", "-c", here(installation, example)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
        assert done.returncode == 0, done.stderr
        assert wanted in done.stdout and "event: error" not in done.stdout
