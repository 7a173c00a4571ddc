"""A model computed by ONNX Runtime on the CPU: no torch, and so ready to answer in a second."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.encoders.files import DamagedModelError
from pipeline.encoders.member import Role
from pipeline.encoders.onnx_files import GRAPH, OnnxExport
from pipeline.errors import HoneloopError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

# The input that says whose adapter is in force, and its values; only graphs of models with adapters have it.
ROLE = "role"
ROLES: tuple[Role, ...] = ("query", "document")


class OnnxBackend:
    """An exported model. See `member.Backend`.

    Args:
        export: its files, verified before.

    Raises:
        HoneloopError: ONNX Runtime is not installed.
        DamagedModelError: ONNX Runtime cannot read the graph.
    """

    name = "onnx"
    device = "cpu"

    def __init__(self, export: OnnxExport) -> None:
        self.pad_id = export.pad_id
        self.dtype = export.precision
        self._export = export
        self._session = _open(export)

    @cached_property
    def _has_roles(self) -> bool:
        return ROLE in {each.name for each in self._session.get_inputs()}

    def run(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64], role: Role
    ) -> NDArray[np.float32]:
        """See `member.Backend.run`."""
        feed: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
        if self._has_roles:
            feed[ROLE] = np.array(ROLES.index(role), dtype=np.int64)
        return np.asarray(self._session.run(None, feed)[0], dtype=np.float32)


def _open(export: OnnxExport) -> InferenceSession:
    try:
        import onnxruntime
    except ImportError as error:
        raise HoneloopError(
            f"The model in {export.directory} is computed by ONNX Runtime, which is not installed.",
            hint="Run: pip install 'honeloop[onnx]', or set HONELOOP_BACKEND=torch.",
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: warnings are about its own optimisations
    # As torch does: it does not read the variable itself. Without, one thread for each core.
    options.intra_op_num_threads = _threads()
    # Threads that wait for work by spinning would take the processor from the database.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    path = export.directory / GRAPH
    try:
        # Of itself it maps the weights: whoever cuts the file short then kills the process (SIGBUS), and
        # whoever writes over it changes the model. It copies what it is given here.
        weights = {file.name: file.read_bytes() for file in export.directory.glob(f"{GRAPH}.*")}
        if weights:
            options.add_external_initializers_from_files_in_memory(
                list(weights), list(weights.values()), [len(content) for content in weights.values()]
            )
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own exceptions have no common class but this
        reason = " ".join(str(error).split())[:300]
        raise DamagedModelError(
            f"{path} cannot be read by ONNX Runtime: {reason}", hint=export.fix
        ) from error


def _threads() -> int:
    number = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(number) if number.isdigit() else 0
