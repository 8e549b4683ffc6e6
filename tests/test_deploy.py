"""The container files, which no engine runs here: all that they name exists, and the settings are right."""

import re
import shlex
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from otrta_cli.litellm_config import read_config
from otrta_litellm.setting_faults import ENV_PREFIX
from otrta_litellm.settings import GatewaySettings, load_settings

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
BUILT = {name: service for name, service in SERVICES.items() if "build" in service}


def instructions(path: Path) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, each with its rest, on one line."""
    text = re.sub(r"\\\n", " ", path.read_text("utf-8"))
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def dockerfile(service: dict[str, Any]) -> list[tuple[str, str]]:
    """The instructions that a service is built by."""
    assert (DEPLOY / service["build"]["context"]).resolve() == ROOT
    return instructions(ROOT / service["build"]["dockerfile"])


def rests(found: list[tuple[str, str]], word: str) -> list[str]:
    """What stands behind an instruction, each time."""
    return [rest for each, rest in found if each == word]


def copied(found: list[tuple[str, str]]) -> list[tuple[list[str], str]]:
    """What is copied, and to where."""
    words = [[w for w in shlex.split(rest) if not w.startswith("--")] for rest in rests(found, "COPY")]
    return [(each[:-1], each[-1]) for each in words]


def ignored(name: str) -> bool:
    """Whether .dockerignore, which lists what is let in, keeps a file out of the build."""
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert lines[0] == "*"
    allowed = [line[1:] for line in lines if line.startswith("!")]
    return not any(Path(name).match(each) or Path(name).parts[0] == each for each in allowed)


@pytest.mark.parametrize("name", BUILT)
def test_everything_that_is_copied_is_there_and_let_in(name: str) -> None:
    sources = [source for group, _ in copied(dockerfile(BUILT[name])) for source in group]
    assert sources
    assert [source for source in sources if not (ROOT / source).exists() or ignored(source)] == []


def test_the_gateways_image_has_all_packages_and_what_they_are_built_from() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    sources = {source for group, _ in copied(dockerfile(SERVICES["gateway"])) for source in group}
    needed = {*wheel["packages"], *wheel["force-include"], "pyproject.toml", project["project"]["readme"]}
    assert needed | set(project["project"]["license-files"]) <= sources


@pytest.mark.parametrize("name", BUILT)
def test_images_take_the_arguments_that_are_given_and_run_as_nobody_special(name: str) -> None:
    found = dockerfile(BUILT[name])
    declared = {rest.partition("=")[0] for rest in rests(found, "ARG")}
    assert set(BUILT[name]["build"]["args"]) == declared
    assert BUILT[name]["build"]["args"]["PYTHON_VERSION"] in ("3.11", "3.12", "3.13")
    users = rests(found, "USER")
    assert len(users) == 1
    assert f"--create-home {users[0]}" in next(r for r in rests(found, "RUN") if "useradd" in r)
    after = [word for word, _ in found[found.index(("USER", users[0])) :]]
    assert "RUN" not in after
    assert "COPY" not in after
    assert BUILT[name]["init"] is True


@pytest.mark.parametrize("name", BUILT)
def test_entry_points_are_scripts_that_can_be_run(name: str) -> None:
    found = dockerfile(BUILT[name])
    [entry] = rests(found, "ENTRYPOINT")
    [script] = json_list(entry)
    source = next(group[0] for group, to in copied(found) if to.endswith(f"/bin/{script}"))
    assert subprocess.run(["sh", "-n", str(ROOT / source)], check=False).returncode == 0
    for variable in re.findall(r'cat "\$([A-Z_]+)"', (ROOT / source).read_text("utf-8")):
        assert BUILT[name]["environment"][variable].startswith("/run/secrets/")


def json_list(text: str) -> list[str]:
    """The exec form of an instruction."""
    found: list[str] = yaml.safe_load(text)
    return found


@pytest.mark.parametrize("name", BUILT)
def test_ports_are_those_that_are_listened_on(name: str) -> None:
    [exposed] = rests(dockerfile(BUILT[name]), "EXPOSE")
    [published] = BUILT[name]["ports"]
    assert published == f"127.0.0.1:{exposed}:{exposed}"
    assert f"127.0.0.1:{exposed}/" in BUILT[name]["healthcheck"]["test"][-1]
    told = [*BUILT[name].get("command", []), *BUILT[name]["environment"].values()]
    assert exposed in told


@pytest.mark.parametrize("name", SERVICES)
def test_volumes_secrets_and_health_are_declared(name: str) -> None:
    service = SERVICES[name]
    [(volume, at)] = [each.split(":") for each in service["volumes"]]
    assert volume in COMPOSE["volumes"]
    if name in BUILT:
        assert at in rests(dockerfile(service), "VOLUME")
    assert set(service["secrets"]) <= set(COMPOSE["secrets"])
    for variable, value in service["environment"].items():
        if str(value).startswith("/run/secrets/"):
            assert variable.endswith("_FILE")
            assert value.removeprefix("/run/secrets/") in service["secrets"]
        assert not re.search("password|private", str(value)) or str(value).startswith("/run/secrets/")
    assert service["healthcheck"]["test"][0] == "CMD"
    for other, condition in service.get("depends_on", {}).items():
        assert condition == {"condition": "service_healthy"}
        assert "healthcheck" in SERVICES[other]


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """The directory that secrets.sh has made."""
    made = tmp_path / "secrets"
    subprocess.run(["sh", str(DEPLOY / "secrets.sh"), str(made)], check=True, timeout=60)
    return made


def test_the_script_makes_every_secret_once(secrets: Path) -> None:
    named = {Path(each["file"]).name for each in COMPOSE["secrets"].values()}
    assert all(each["file"] == f"./secrets/{name}" for name, each in COMPOSE["secrets"].items())
    assert {path.name for path in secrets.iterdir()} == named == set(COMPOSE["secrets"])
    before = {path.name: path.read_text() for path in secrets.iterdir()}
    assert all(len(text) >= 64 for text in before.values())
    assert len(set(before.values())) == len(before)
    subprocess.run(["sh", str(DEPLOY / "secrets.sh"), str(secrets)], check=True, timeout=60)
    assert {path.name: path.read_text() for path in secrets.iterdir()} == before
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()} == {0o444}
    assert "/deploy/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    assert "deploy/secrets" in (ROOT / ".dockerignore").read_text().splitlines()


def test_the_gateways_settings_are_right(secrets: Path) -> None:
    environ = {
        name: str(value).replace("/run/secrets", str(secrets))
        for name, value in SERVICES["gateway"]["environment"].items()
    }
    config = read_config(DEPLOY / "litellm.yaml", environ | {"LITELLM_MASTER_KEY": "sk-x"})
    found = load_settings(config.otrta, environ)
    assert found.store_is_shared
    password = (secrets / "postgres_password").read_text()
    database = SERVICES["postgres"]["environment"]
    place = f"postgres:5432/{database['POSTGRES_DB']}"
    assert found.store == f"postgresql://{database['POSTGRES_USER']}:{password}@{place}"
    assert found.mints == ("http://mint:3338",)
    assert config.general["master_key"] == "sk-x"
    assert {model["model_name"] for model in config.models} <= set(found.prices)


def test_every_variable_of_the_gateway_is_read_by_somebody() -> None:
    ours = {f"{ENV_PREFIX}{key.upper()}" for key in GatewaySettings.model_fields} | {f"{ENV_PREFIX}KEY"}
    script = (DEPLOY / "gateway.sh").read_text() + (DEPLOY / "litellm.yaml").read_text()
    for name in SERVICES["gateway"]["environment"]:
        assert name.removesuffix("_FILE") in ours or name in script, name


def test_the_mint_is_the_one_of_the_examples() -> None:
    lines = (ROOT / "config/mint.env").read_text("utf-8").splitlines()
    example = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    given = SERVICES["mint"]["environment"]
    same = ["MINT_DERIVATION_PATH", "MINT_DERIVATION_PATH_LIST", "MINT_INPUT_FEE_PPK"]
    assert {name: given[name] for name in same} == {name: example[name] for name in same}
    assert set(given) - {"MINT_PRIVATE_KEY_FILE"} <= set(example)


def test_the_config_in_the_image_is_the_one_that_is_started() -> None:
    at = {to: group for group, to in copied(dockerfile(SERVICES["gateway"]))}["/etc/otrta/litellm.yaml"]
    assert at == ["deploy/litellm.yaml"]
    command = SERVICES["gateway"]["command"]
    assert command[command.index("--config") + 1] == "/etc/otrta/litellm.yaml"


def test_the_pages_say_that_no_engine_ran_it() -> None:
    for path in (DEPLOY / "compose.yaml", DEPLOY / "Dockerfile", DEPLOY / "mint.Dockerfile"):
        assert "no container engine has run" in path.read_text().lower()
    assert "no container engine ran them" in (ROOT / "docs/gateway.md").read_text()
