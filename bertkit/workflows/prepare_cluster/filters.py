"""datatrove's filters, formatters and extractors by the names of their classes, as a recipe gives them."""

import inspect
from collections.abc import Iterable
from typing import Any, Final

from datatrove.pipeline import extractors, filters, formatters
from datatrove.pipeline.base import PipelineStep

from bertkit.config.data import FilterConfig
from bertkit.errors import ConfigError, nearest, refused_as

# What takes a Python function or a writer cannot be said in a recipe.
NOT_IN_RECIPES: Final = ("LambdaFilter",)
NOT_AN_ARGUMENT: Final = ("self", "exclusion_writer")


def build_filters(configs: Iterable[FilterConfig]) -> list[PipelineStep]:
    """The filters of a recipe in order.

    Raises:
        ConfigError: no such filter or argument (names the nearest), a value it refuses, or a package it lacks.
    """
    return [_build(config) for config in configs]


def known_filters() -> dict[str, type[PipelineStep]]:
    """The classes a recipe can name."""
    return {
        name: value
        for module in (filters, formatters, extractors)
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, PipelineStep) and name not in NOT_IN_RECIPES
    }


def _build(config: FilterConfig) -> PipelineStep:
    known = known_filters()
    if config.name not in known:
        raise ConfigError(f"data.cluster.filters: datatrove has no filter '{config.name}'{nearest(config.name, known)}")
    filter_class = known[config.name]
    allowed = [name for name in inspect.signature(filter_class.__init__).parameters if name not in NOT_AN_ARGUMENT]
    for name in config.arguments:
        if name not in allowed:
            raise ConfigError(f"data.cluster.filters: {config.name} has no argument '{name}'{nearest(name, allowed)}")
    if "seed" in allowed and config.arguments.get("seed") is None:
        raise ConfigError(f"data.cluster.filters: {config.name} draws at random: give its argument 'seed' a number")
    with refused_as(ConfigError, f"data.cluster.filters: {config.name} cannot be made"):
        return _called(filter_class, config.arguments)


def _called(filter_class: Any, arguments: dict[str, Any]) -> PipelineStep:
    step: PipelineStep = filter_class(**arguments)
    return step
