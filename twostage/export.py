"""Make a transformers folder from a head run: encoder and head in one model, loadable without the cache, with a model card.

A 1-layer head on [CLS] or the pooler's output becomes transformers' own class (BertForSequenceClassification, ...), so that
pipeline("text-classification", model="runs/1C3/model") needs no code of ours. Other heads are loaded after
`import twostage.models.classifier`, through AutoModelForSequenceClassification. --onnx adds model.onnx, which holds any of them.
"""

import shutil
import sys
from pathlib import Path

from twostage import cli
from twostage.errors import BadInput
from twostage.files import replacing_folder, sweep
from twostage.predict import model_of_older_run
from twostage.progress import say
from twostage.runs.folder import read_run

EXAMPLES = """examples:
  python -m twostage.export runs/1C3
  python -m twostage.export runs/sweep --out news-classifier --model models/bert-base-chinese
  python -m twostage.export runs/B4C3 --onnx
"""


def build_parser() -> cli.Parser:
    parser = cli.Parser(
        prog="python -m twostage.export", description=__doc__, epilog=EXAMPLES, usage="python -m twostage.export RUN [options]"
    )
    parser.add_argument("run", type=cli.path, metavar="RUN", help="a run folder, for instance runs/1C3")
    parser.add_argument(
        "--out", type=cli.path, metavar="DIR", help="folder to write, which must not exist yet (default: RUN/model)"
    )
    parser.add_argument("--model", metavar="MODEL", help="the encoder of the run, when it is not where training found it")
    parser.add_argument("--onnx", action="store_true", help="also write model.onnx (into RUN/model, if that exists already)")
    parser.add_argument(
        "--license", metavar="ID", help="the licence that the model card states, for instance apache-2.0 (default: none)"
    )
    return parser


def main(argv=None) -> int:
    args = build_parser().parse_args(argv)
    print(export(args.run, args.out, args.model, onnx=args.onnx, licence=args.license))
    return 0


def export(
    run: Path, out: Path | None = None, model: str | None = None, *, onnx: bool = False, licence: str | None = None
) -> Path:
    """Write the model of a run to `out` (default: run/model) and return it. The folder is whole or not there at all.

    onnx: with model.onnx, which is also added to a run/model that stands already. licence: stated in the model card.
    BadInput: no run, a run without a model, another encoder than it was trained with, an `out` that exists.
    """
    from twostage.models.card import name_of_base, write_card
    from twostage.models.onnx_graph import NAME, check_packages, write_onnx
    from twostage.models.saved import recorded_model

    run = Path(run)
    record = read_run(run)
    if onnx:
        check_packages()
    out = Path(out) if out is not None else run / "model"
    has_model, has_head = (run / "model").is_dir(), (run / "head").is_dir()
    if not has_model and not has_head:
        raise BadInput(f"{run} holds no model (neither head/ nor model/): give a run that finished")
    adds = onnx and out == run / "model" and has_model and not (out / NAME).exists() and not (model or licence)
    if not adds and (out.exists() or out.is_symlink()):
        way = "it can be loaded as it is" if out == run / "model" else "give another --out"
        raise BadInput(f"{out} exists already: {way}")
    sweep(out.parent)
    base = model or recorded_model(record) or record.get("model") or model_of_older_run(run)
    try:
        if adds:
            write_onnx(out)
            return out
        with replacing_folder(out) as partial:
            if has_head:
                write_head_run(run, partial, model)
            else:
                shutil.copytree(run / "model", partial, dirs_exist_ok=True)
            if record["status"] == "complete":
                write_card(partial, record, base and name_of_base(base), licence)
            if onnx:
                write_onnx(partial)
    except OSError as error:
        raise BadInput(f"cannot write {out} ({error.strerror or error}): give an --out that can be written to") from None
    return out


def write_head_run(run: Path, folder: Path, model: str | None) -> None:
    from twostage.models.calibrated import load_calibrated
    from twostage.models.saved import encoder_folder

    head, config = load_calibrated(run)
    encoder = encoder_folder(run, config, model or model_of_older_run(run))

    from twostage.encoder.encoder import load_bert, load_tokenizer
    from twostage.encoder.settings import view_of
    from twostage.models.classifier import save_classifier

    settings = config["encoder"]
    extra = {name: settings[name] for name in ("pooling", "max_length", "truncation")}
    extra |= {
        "head": config["head"],
        "activation": config["activation"],
        "encoder": settings,
        "temperature": config["temperature"],
    }
    pooling, layer = view_of(settings)
    bert = load_bert(encoder, pooler=pooling == "pooler", layer=layer)  # the layers after it are left out
    save_classifier(bert, head, config["label_names"], load_tokenizer(encoder), folder, extra)
    if settings.get("prefix") or settings["truncation"] == "head-tail":
        say(
            "pipeline() knows neither a prefix nor head-tail: twostage.predict adds the one and cuts by the other, as in training"
        )


if __name__ == "__main__":
    sys.exit(cli.run(main))
