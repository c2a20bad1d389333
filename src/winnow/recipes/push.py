"""What `winnow push` takes and does: an export to a hub, through huggingface_hub."""

import re
from dataclasses import dataclass
from pathlib import Path

import tyro

from winnow.recipes.export_folder import CARD_FILE, LIST_FILE, whole_export
from winnow.types import InputError

_UNKNOWN = "the hub does not know you: log in with `hf auth login`, or set $HF_TOKEN"


@dataclass(frozen=True, kw_only=True)
class Push:
    """Upload an export; its repository is made where there is none."""

    export: tyro.conf.Positional[Path]
    """A folder that `winnow export` wrote. Its card may be edited first, other files may not."""
    to: str
    """OWNER/NAME on the Hub, or on the server of $HF_ENDPOINT. Who you are comes from `hf auth
    login`, or from $HF_TOKEN."""
    private: bool = False
    """Make the repository, where it is new, one that only you see."""


def run_push(options: Push) -> str:
    """Upload it; its address. Raises InputError."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", options.to, re.ASCII):
        raise InputError(f"--to {options.to!r} is not OWNER/NAME, such as somebody/small-clip")
    listed = whole_export(options.export)
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        HTTPError,  # of the http library that its version uses
        LocalTokenNotFoundError,
    )

    api = HfApi()
    try:
        repository = api.create_repo(options.to, private=options.private or None, exist_ok=True)
        # What else is in the folder was not compared with the model, and stays here.
        api.upload_folder(
            repo_id=repository.repo_id,
            folder_path=options.export,
            allow_patterns=[*listed.files, CARD_FILE, LIST_FILE],
            commit_message=f"Export by winnow {listed.winnow}: {', '.join(listed.formats)}",
        )
    except LocalTokenNotFoundError as error:
        raise InputError(f"{options.to}: {_UNKNOWN}") from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        said = _UNKNOWN if status == 401 else str(error).strip().partition("\n")[0]
        raise InputError(f"{options.to} was not uploaded: {said}") from error
    except HFValidationError as error:
        raise InputError(f"--to {options.to}: {error}") from error
    except (HTTPError, ConnectionError) as error:
        raise InputError(
            f"{options.to} was not uploaded: {api.endpoint} cannot be reached ({error}); run the "
            "same command where it can"
        ) from error
    return str(repository)
