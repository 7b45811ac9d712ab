"""The JSON Schema of run.json and its description in docs/runs.md, both made from RunRecord: python -m twostage.runs.schema"""

import dataclasses
import json
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from twostage.runs.findings import Calibration, NearDuplicates, Suspects, View
from twostage.runs.keys import hints_of, required
from twostage.runs.record import AgainstFrozen, ClassScore, CurvePart, Epoch, RunRecord, Strength, TrialRecord

PARTS = {"epochs": Epoch, "trials": TrialRecord, "per_class": ClassScore, "learning_curve": CurvePart, "strengths": Strength,
         "views": View, "suspects": Suspects, "near_duplicates": NearDuplicates, "calibration": Calibration,
         "against_frozen": AgainstFrozen}  # fmt: skip


def json_schema() -> dict:
    """The JSON Schema of run.json."""
    about = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "twostage run.json"}
    return about | _schema(RunRecord)


def _schema(hint: Any) -> dict:
    kind, parts = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint):
        hints, fields = hints_of(hint), dataclasses.fields(hint)
        properties = {f.name: _schema(hints[f.name]) | {"description": f.metadata["meaning"]} for f in fields}
        return {
            "type": "object", "properties": properties,
            "required": [field.name for field in fields if required(hints[field.name])],
        }  # fmt: skip
    if kind is Annotated:
        return _schema(parts[0]) | {"minimum": parts[1], "maximum": parts[2]}
    if kind in (Union, types.UnionType):
        return {"anyOf": [_schema(part) for part in parts]}
    if kind is Literal:
        return {"enum": list(parts)}
    if kind is dict:
        return {"type": "object", "additionalProperties": _schema(parts[1])}
    if kind is list:
        return {"type": "array", "items": _schema(parts[0])}
    names = {int: "integer", float: "number", str: "string", bool: "boolean", dict: "object", type(None): "null"}
    return {"type": names[hint]}


def documented(page: str) -> str:
    """docs/runs.md with its table of keys made anew."""

    def table(kind: type) -> list[str]:
        rows = [f"| `{field.name}` | {field.metadata['meaning']} |" for field in dataclasses.fields(kind)]
        return ["| key | meaning |", "| --- | --- |", *rows]

    lines = table(RunRecord)
    for name, kind in PARTS.items():
        entries = ", each entry" if "list" in str(hints_of(RunRecord)[name]) else ""
        lines += ["", f"`{name}`{entries}:", "", *table(kind)]
    begin, end = "<!-- made by python -m twostage.runs.schema -->\n", "<!-- end -->\n"
    before, _, rest = page.partition(begin)
    return before + begin + "\n" + "\n".join(lines) + "\n\n" + end + rest.partition(end)[2]


if __name__ == "__main__":
    here, docs = Path(__file__).parent, Path(__file__).parents[2] / "docs"
    for file in (here / "run.schema.json", docs / "run.schema.json"):
        file.write_text(json.dumps(json_schema(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    guide = docs / "runs.md"
    guide.write_text(documented(guide.read_text(encoding="utf-8")), encoding="utf-8")
