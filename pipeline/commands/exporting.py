"""`honeloop models export`: a model for ONNX Runtime, proven to be the same model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.commands.common import Json, output, print_json, working
from pipeline.errors import BadInputError, HoneloopError

if TYPE_CHECKING:
    from pipeline.encoders.onnx_files import OnnxExport

EXAMPLES = (
    "Examples:\n\n[cyan]honeloop models export serving --onnx[/cyan]\n\n"
    "[cyan]honeloop models export qodo+jina --onnx[/cyan]   what is trained from it shares its frozen "
    "member's export\n\n"
    "Each member of an encoder goes to HONELOOP_HOME/onnx/<its version>/: the graph with pooling inside, "
    "its tokenizer, and export.json. Inputs are input_ids, attention_mask and, of a model with task "
    "adapters, role (0: query, 1: document); export.json has the prompts that belong before the text.\n\n"
    "From then on ONNX Runtime computes it on the CPU; HONELOOP_BACKEND=torch goes back. It is the same "
    "model version, as an export is accepted only if the cosine of its vectors to torch's is at least "
    "HONELOOP_ONNX_MIN_COSINE (0.9999), over real code and in both roles.\n\n"
    "With HONELOOP_BACKEND=onnx, whatever loads a frozen member first exports it.\n\n"
    "To undo it, delete its directory. It needs [cyan]pip install 'honeloop\\[onnx]'[/cyan]."
)


def export(
    version: Annotated[
        str, typer.Argument(help="base, serving, a preset, or the beginning of a model version.")
    ],
    onnx: Annotated[bool, typer.Option("--onnx", help="To ONNX, the one format there is.")] = False,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="With weights of 8 bits, if they lose no more than an export may; else says what they lose.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Exports a model to ONNX and compares it with torch: path, size, cosine, speed."""
    if not onnx:
        raise BadInputError("Say what to export to.", hint="The one format there is: --onnx.")
    from pipeline.encoders.loading import located_members
    from pipeline.encoders.onnx_export import export_member
    from pipeline.encoders.onnx_files import OnnxExports
    from pipeline.promotion.weights import require_weights, weights_in_use

    with working(json) as bench:
        model = bench.named_model(version)
        exports = OnnxExports(bench.settings.onnx_path, bench.settings.onnx_min_cosine)
        with weights_in_use(bench.db, model.version):
            require_weights(bench.model(model.version))
            found, members = located_members(model.location)
            if found != model.version:
                raise HoneloopError(
                    f"{model.location} no longer holds {model.version[:12]} but {found[:12]}.",
                    hint="Put the model's files back, or export the version it holds now.",
                )
            made = [
                (member.spec.source, export_member(member, exports, bench.progress, int8=int8))
                for member in members
            ]
        used = bench.settings.backend != "torch"
    if json:
        shown = [_as_json(source, each) for source, each in made]
        print_json({"model_version": model.version, "model": model.name, "exports": shown})
        return
    console = output()
    console.print(f"[bold]{model.name}[/bold] {model.version[:12]}, by ONNX Runtime:")
    for source, each in made:
        near = each.nearness
        console.print(
            f"  {source}: {each.precision}, {each.bytes / 1e6:,.0f} MB, {near.speed:.2f} times as fast as "
            f"torch; cosine to torch's vectors {near.lowest:.7f} at least, {near.mean:.7f} on average, over "
            f"{near.texts} texts in both roles\n  {each.directory}",
            soft_wrap=True,
        )
    console.print(
        "It computes the model on the CPU from now on; HONELOOP_BACKEND=torch goes back."
        if used
        else "HONELOOP_BACKEND=torch is set, so torch goes on computing it."
    )


def _as_json(source: str, made: OnnxExport) -> dict[str, Any]:
    return {
        "source": source,
        "member_version": made.member_version,
        "path": made.directory,
        "bytes": made.bytes,
        "precision": made.precision,
        "cosine": {"lowest": made.nearness.lowest, "mean": made.nearness.mean, "texts": made.nearness.texts},
        "speed_ratio": made.nearness.speed,
    }
