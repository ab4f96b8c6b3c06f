"""What a run is: the schema, presets, loading with messages for people. Never imports torch."""

from visionr1.recipe.advice import amounts, warnings
from visionr1.recipe.load import json_schema, load_recipe, parse_recipe, preset_names, preset_text, to_yaml
from visionr1.recipe.phases import (
    EvaluatePhase,
    Phase,
    StagePhase,
    phases,
    phases_from,
    stage_name,
    stage_number,
    stage_phase,
    stage_phases,
)
from visionr1.recipe.reads import PhaseKind
from visionr1.recipe.schema import Recipe

__all__ = [
    "EvaluatePhase",
    "Phase",
    "PhaseKind",
    "Recipe",
    "StagePhase",
    "amounts",
    "json_schema",
    "load_recipe",
    "parse_recipe",
    "phases",
    "phases_from",
    "preset_names",
    "preset_text",
    "stage_name",
    "stage_number",
    "stage_phase",
    "stage_phases",
    "to_yaml",
    "warnings",
]
