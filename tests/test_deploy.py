"""What the deployment files promise, read without an engine. tests/up_test.py brings them up."""

import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from rooms import MAY_IMPORT, imports, modules

ROOT = Path(__file__).parent.parent
COMPOSE_FILES = [ROOT / "docker-compose.yml", *sorted((ROOT / "deploy").glob("*.yml"))]
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")


class ComposeLoader(yaml.SafeLoader):
    """Knows Compose's tags for merging files."""


ComposeLoader.add_constructor("!reset", lambda loader, node: None)
ComposeLoader.add_constructor("!override", lambda loader, node: loader.construct_sequence(node))


def load(name):
    return yaml.load((ROOT / name).read_text(), ComposeLoader)  # noqa: S506 (a SafeLoader)


BASE = load("docker-compose.yml")["services"]
TLS = load("deploy/docker-compose.tls.yml")["services"]
SERVICES = [pytest.param(service, id=name) for name, service in [*BASE.items(), ("caddy", TLS["caddy"])]]


def copied():
    """The files and folders that the Dockerfile copies into the image."""
    return {name for line in re.findall(r"^COPY (?:--\S+ )*(.+) \S+$", DOCKERFILE, re.M) for name in line.split()}


def copied_modules():
    return modules(ROOT, [name.removesuffix(".py").rstrip("/") for name in copied()])


def imported_by(*names):
    """These modules, all that they import, and what that imports, as far as it is ours."""
    everything = modules(ROOT, MAY_IMPORT)
    found, waiting = set(), list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [name.rpartition(".")[0]] if "." in name else []
            waiting += [module for _, module in imports(name, everything) if module in everything]
    return found


APP, LEARN = imported_by("serve", "app"), imported_by("learn")


def schema_check(schema, *files):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *files]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("file", COMPOSE_FILES, ids=lambda file: file.name)
def test_each_compose_file_follows_the_compose_specification(file, tmp_path):
    plain = tmp_path / "compose.yml"  # the schema describes files without the merging tags
    plain.write_text(re.sub(r" !(reset|override)", "", file.read_text()))
    done = schema_check("vendor.compose-spec", plain)
    assert done.returncode == 0, done.stdout


def test_the_schema_check_refuses_a_compose_file_with_a_wrong_key(tmp_path):
    wrong = tmp_path / "compose.yml"
    wrong.write_text((ROOT / "docker-compose.yml").read_text().replace("read_only:", "readonly:"))
    assert schema_check("vendor.compose-spec", wrong).returncode != 0


def test_the_github_workflow_follows_its_schema():
    done = schema_check("vendor.github-workflows", ROOT / ".github/workflows/ci.yml")
    assert done.returncode == 0, done.stdout


def test_the_dockerfile_passes_its_linter():
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_is_hardened_and_bounded(service):
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service.get("restart") == (None if "profiles" in service else "unless-stopped")
    assert service["init"] is True
    assert service["mem_limit"] and service["pids_limit"]
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}


@pytest.mark.parametrize("service", SERVICES)
def test_each_image_is_of_a_named_version(service):
    if "build" not in service and service.get("pull_policy") != "never":
        assert re.search(r":\d", service["image"]), service["image"]


def test_the_base_image_is_the_slim_python_of_a_named_version():
    assert re.findall(r"^FROM (.+)$", DOCKERFILE, re.M) == ["python:3.13-slim"]


def test_the_database_is_published_nowhere_and_has_no_way_out():
    assert "ports" not in BASE["db"]
    assert BASE["db"]["networks"] == ["database"]
    assert load("docker-compose.yml")["networks"]["database"] == {"internal": True}


def test_the_data_lives_in_a_volume_where_the_postgres_image_keeps_it():
    assert BASE["db"]["volumes"] == ["pgdata:/var/lib/postgresql"]
    assert "pgdata" in load("docker-compose.yml")["volumes"]


@pytest.mark.parametrize("name", ["streamlit_app", "db"])
def test_compose_does_not_start_without_a_password_and_says_where_to_set_it(name):
    assert re.fullmatch(r"\$\{POSTGRES_PASSWORD:\?.*\.env.*\}", BASE[name]["environment"]["POSTGRES_PASSWORD"])


def test_the_app_waits_for_a_database_that_answers_over_tcp():
    assert BASE["streamlit_app"]["depends_on"]["db"]["condition"] == "service_healthy"
    assert re.match(r"pg_isready .*-h 127\.0\.0\.1 ", BASE["db"]["healthcheck"]["test"][1])


@pytest.mark.parametrize("name", ["streamlit_app", "learn"])
def test_the_app_and_learning_run_as_an_unprivileged_user_in_the_image_and_in_compose(name):
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.M) == ["10001"] == [BASE[name]["user"]]
    assert "cap_add" not in BASE[name]


def test_learning_begins_on_demand_alone_in_the_image_of_the_app():
    assert BASE["learn"]["profiles"] == ["learn"]
    assert "image" not in BASE["streamlit_app"]  # so Compose names it after the project and the service
    assert BASE["learn"]["image"] == "${COMPOSE_PROJECT_NAME}-streamlit_app"
    assert BASE["learn"]["pull_policy"] == "never"
    assert not any("learn" in service.get("depends_on", {}) for service in BASE.values())


def test_what_is_typed_behind_learn_goes_to_its_program():
    python, program, *flags = BASE["learn"]["entrypoint"]
    assert (python, Path(program).parent) == ("python", Path("/app")) and Path(program).name in copied()
    assert "command" not in BASE["learn"] and "--threads" in flags


def test_learning_gets_out_to_download_and_is_published_nowhere():
    assert BASE["learn"]["networks"] == ["web", "database"]
    assert not (load("docker-compose.yml")["networks"]["web"] or {}).get("internal")
    assert "ports" not in BASE["learn"]


def test_learning_writes_to_a_volume_that_its_user_owns_and_nowhere_else():
    assert BASE["learn"]["volumes"] == [f"learnt:{BASE['learn']['working_dir']}"]
    assert "learnt" in load("docker-compose.yml")["volumes"]
    assert f"install -d -o app -g app {BASE['learn']['working_dir']}" in DOCKERFILE


def test_learning_yields_the_processor_to_the_app_and_is_not_asked_for_the_apps_health():
    assert BASE["learn"]["cpu_shares"] < 1024 and "cpu_shares" not in BASE["streamlit_app"]
    assert BASE["learn"]["healthcheck"] == {"disable": True}


def test_beside_a_swarm_learning_is_the_same_but_for_its_image_and_its_database():
    services = load("deploy/docker-compose.learn.yml")["services"]
    assert services.keys() == {"learn"}
    assert services["learn"].keys() == {"image", "pull_policy", "depends_on", "environment", "networks"}
    stack = load("deploy/docker-stack.yml")["services"]["streamlit_app"]
    assert services["learn"]["image"] == stack["image"]
    assert services["learn"]["environment"].items() <= stack["environment"].items()
    assert services["learn"]["networks"] == stack["networks"]


def test_behind_caddy_the_app_is_published_nowhere_and_has_no_way_out():
    assert TLS["streamlit_app"]["ports"] is None
    assert TLS["streamlit_app"]["networks"] == ["proxy", "database"]
    assert load("deploy/docker-compose.tls.yml")["networks"]["proxy"] == {"internal": True}


def test_every_variable_of_the_compose_files_is_in_the_env_example():
    example = (ROOT / ".env.example").read_text()
    text = "".join(file.read_text() for file in COMPOSE_FILES if "compose" in file.name)
    for name in set(re.findall(r"\$\{(\w+)", text)):
        assert re.search(rf"^#? ?{name}=", example, re.M), f".env.example has no {name}"


@pytest.mark.parametrize(
    "file, name, names",
    [
        ("docker-compose.yml", "streamlit_app", APP),
        ("deploy/docker-stack.yml", "streamlit_app", APP),
        ("docker-compose.yml", "learn", LEARN),
    ],
)
def test_every_setting_that_is_read_is_handed_to_the_container(file, name, names):
    code = "".join(copied_modules()[module].read_text() for module in names)
    settings = set(re.findall(r"""(?:getenv\(|environ\[|environ.get\()["'](\w+)["']""", code))
    assert {"POSTGRES_HOST", "POSTGRES_PASSWORD"} <= settings
    settings -= {"PGDATA_DIR", "DATA_DIR"}  # folders: of the embedded server, and of MNIST, here in the working folder
    assert settings <= load(file)["services"][name]["environment"].keys()


def test_the_image_holds_every_module_that_the_app_and_learning_import_and_no_other():
    known = copied_modules()
    assert re.search(r"""App\(.*["']app\.py["']""", known["serve"].read_text())
    assert known.keys() == APP | LEARN
    assert {"model.pth", "model.json", ".streamlit/", "training/"} <= copied()


def test_the_page_cannot_start_learning():
    assert not APP & {"learn", "train"}


def test_the_image_has_every_package_that_learning_imports_beyond_those_of_the_app():
    known = modules(ROOT, MAY_IMPORT)
    app, learn = (
        {module.partition(".")[0] for n in names for _, module in imports(n, known)} for names in (APP, LEARN)
    )
    packages = (learn - app - {name.partition(".")[0] for name in known}) - sys.stdlib_module_names
    assert "tqdm" in packages
    for (name,) in (packages_distributions()[package] for package in packages):
        assert re.search(rf"^{name}==", (ROOT / "requirements.txt").read_text(), re.M), name


def test_dependencies_are_installed_before_the_code_is_copied_and_from_the_lock():
    assert DOCKERFILE.index("pip --python") < DOCKERFILE.index("COPY --chmod=755 ")
    assert re.search("pip --python .* -r requirements.txt -c requirements.lock$", DOCKERFILE, re.M)


def test_the_image_carries_neither_the_embedded_server_nor_the_tests():
    assert "pixeltable" not in (ROOT / "requirements.txt").read_text()
    assert not copied() & {"requirements-dev.txt", "tests/", "."}


def test_the_build_sees_nothing_but_what_is_copied():
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignore and ".streamlit/secrets.toml" in ignore
    assert not any(line.startswith("!.env") for line in ignore)


def test_the_apps_user_can_read_what_is_copied_whatever_the_umask_of_the_clone():
    after = DOCKERFILE[DOCKERFILE.index("pip --python") :]
    assert set(re.findall(r"^COPY (\S+)", after, re.M)) == {"--chmod=755"}


@pytest.mark.parametrize("requirements", ["requirements.txt", "requirements-dev.txt"])
def test_every_requirement_is_pinned_and_locked_to_the_same_version(requirements):
    locked = (ROOT / "requirements.lock").read_text().splitlines()
    for line in (ROOT / requirements).read_text().splitlines():
        requirement = re.split("[;#]", line)[0].strip()
        if requirement and not requirement.startswith("-r"):
            assert "==" in requirement and requirement in locked, f"{requirement} is not in requirements.lock"
