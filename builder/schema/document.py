"""The whole JSON Schema, and the small files beside a user's configs that lead to its parts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from builder.config import fits
from builder.config.kinds import Names
from builder.config.schema import TOP
from builder.errors import UsageError, nearest
from builder.schema import components, language, sections
from builder.schema.values import DEFS, Json, mapping, name_of, ref

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FILE = "schema.json"
MODELINE = f"# yaml-language-server: $schema={FILE}"
"""The line in a config by which an editor finds the schema that lies beside it."""
WHOLE = "experiment"
"""The group whose files change any part of a config."""


def groups() -> tuple[str, ...]:
    """The config groups whose files have a schema."""
    return (
        "model",
        "block",
        WHOLE,
        *(name for name, node in TOP.fields.items() if name != "model" and _is_group(name)),
    )


def _is_group(name: str) -> bool:
    node = TOP.fields[name]
    return name == "init" or isinstance(node, Names) or hasattr(node, "fields")


def schema(blocks: Sequence[str], versions: Mapping[str, str]) -> Json:
    """The schema of a config, its parts under `$defs`: `config`, and `file.GROUP` for the files of a group.

    Args:
        blocks: names of the blocks that every model may use.
        versions: what the registries came from, kept as a comment.
    """
    defs: Json = dict(DEFS)
    defs["defaults"] = {"description": "the configs that this one begins with", "type": "array",
                        "items": {"type": ["string", "object"]}}  # fmt: skip
    choices = {group: {"type": "string"} for group in fits.GROUPS}
    defs["fits"] = mapping(choices, doc="the model and the task that suit the data, where no other is chosen")
    defs |= dict(components.definitions()) | dict(language.definitions(blocks))
    defs |= {"model": _model(partial=False), "model.partial": _model(partial=True)}
    defs |= dict(sections.definitions())
    defs |= {f"file.{group}": _file(group) for group in groups()}
    return {
        "$schema": DIALECT,
        "$comment": "written by `builder schema`; " + ", ".join(f"{key} {value}" for key, value in versions.items()),
        "title": "A config of builder",
        **_unless_partial(ref("config"), ref("config.partial")),
        "$defs": defs,
    }


def _model(partial: bool) -> Json:
    """A model of a config: a definition, which may also be a layer alone."""
    definition = ref(name_of("definition", partial))
    return {"if": {"required": ["type"]}, "then": ref(name_of("node", partial)), "else": definition} | {
        "type": "object"
    }


def _file(group: str) -> Json:
    """A file of a group: its section; or parts of a whole config, where the section's name stands at its top."""
    if group == WHOLE:
        return ref("config.partial")
    if group == "block":
        return ref("definition")
    section = f"section.{group}"
    partial = _with_defaults(sections.section_schema(group, TOP.fields[group], partial=True))
    # Arguments that a file leaves to the command line, as the path of a data set, aren't missing yet.
    whole = {**partial, "required": ["type"]} if group in sections.KINDS_OF else ref(section)
    return {"if": {"type": "object", "required": [group]}, "then": ref("config.partial"),
            "else": _unless_partial(whole, partial)}  # fmt: skip


def _unless_partial(whole: Json, partial: Json) -> Json:
    """`partial` for a file with a defaults list, which is merged onto what that names."""
    return {"if": {"type": "object", "required": ["defaults"]}, "then": partial, "else": whole}


def _with_defaults(schema: Json) -> Json:
    """The schema of a section as that of a file, which may also have a defaults list."""
    if "anyOf" in schema:
        return schema | {"anyOf": [_with_defaults(one) for one in schema["anyOf"]]}
    if schema.get("type") != "object":
        return schema
    return schema | {"properties": {"defaults": ref("defaults"), "fits": ref("fits"), **schema.get("properties", {})}}


def of_group(whole: Json, group: str) -> Json:
    """The schema of the files of one group, complete in itself.

    Raises:
        UsageError: there is no such group.
    """
    if group not in groups():
        near = nearest(group, groups())
        asked = f"; did you mean {' or '.join(map(repr, near))}?" if near else f": {', '.join(groups())}"
        raise UsageError(f"no config group {group!r}{asked}")
    head = {key: whole[key] for key in ("$schema", "$comment")}
    return {**head, "title": f"A file of configs/{group}/", **ref(f"file.{group}"), "$defs": whole["$defs"]}


def pointer(group: str) -> Json:
    """What `GROUP/schema.json` holds: the way to the part of `schema.json` that its files follow."""
    return {"$schema": DIALECT, "$ref": f"../{FILE}#/$defs/file.{group}"}


def text(schema: Json) -> str:
    """A schema as JSON, each definition on a line of its own."""
    defs = schema.get("$defs", {})
    head = json.dumps({key: value for key, value in schema.items() if key != "$defs"}, ensure_ascii=False, indent=1)
    if not defs:
        return head + "\n"
    lines = ",\n".join(f"  {json.dumps(name)}: {_compact(one)}" for name, one in defs.items())
    return f'{head[:-2]},\n "$defs": {{\n{lines}\n }}\n}}\n'


def _compact(schema: Json) -> str:
    return json.dumps(schema, ensure_ascii=False, separators=(",", ":"))


def files(whole: Json, folder: Path) -> dict[Path, str]:
    """What is written into a folder of configs: `schema.json`, and one in the folder of each group that it has."""
    inside = {folder / group / FILE: text(pointer(group)) for group in groups() if (folder / group).is_dir()}
    return {folder / FILE: text(whole), **inside}
