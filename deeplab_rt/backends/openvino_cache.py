"""Compiled networks on disk for OpenVINO, each behind a hash that is checked before it is loaded.

OpenVINO's own cache loads a damaged file without a word and gives other masks. This one compiles anew.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deeplab_rt.files import cache_dir, private_dir, write_atomically

LOG = logging.getLogger(__name__)

_MAGIC = b"deeplab_rt openvino 1\n"


def load_or_compile(
    core: Any, key: Mapping[str, object], config: dict[str, Any], compile_model: Callable[[], Any]
) -> Any:
    """A compiled model from the cache, or compiled now and kept.

    Args:
        core: ``openvino.Core``.
        key: everything that the compiled model depends on.
        config: it is compiled and loaded with.
        compile_model: compiles it.
    """
    text = json.dumps({**key, "config": config}, sort_keys=True, default=str)
    path = _folder() / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.blob"
    content = _read(path)
    if content is not None:
        try:
            return core.import_model(io.BytesIO(content), "CPU", config)
        except RuntimeError as error:
            LOG.warning("%s: OpenVINO does not take it, compiling anew: %s", path, error)
    compiled = compile_model()
    _write(path, compiled)
    return compiled


def _folder() -> Path:
    return cache_dir() / "openvino"


def _read(path: Path) -> bytes | None:
    """What was kept, if it is whole; what is not is told and left out."""
    try:
        private_dir(path.parent)
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        # A read-only home costs a second at every start and nothing else.
        LOG.debug("%s: not read: %s", path, error)
        return None
    head = len(_MAGIC) + 32
    body = content[head:]
    if content[:head] != _MAGIC + hashlib.sha256(body).digest():
        LOG.warning("%s: this cached network is damaged, compiling anew", path)
        return None
    return body


def _write(path: Path, compiled: Any) -> None:
    try:
        private_dir(path.parent)
        body = compiled.export_model().getvalue()
        write_atomically(path, _MAGIC + hashlib.sha256(body).digest() + body)
        path.chmod(0o600)
    except OSError as error:
        LOG.debug("%s: not kept: %s", path, error)
    except RuntimeError as error:
        LOG.warning("%s: OpenVINO cannot write its compiled network: %s", path, error)
