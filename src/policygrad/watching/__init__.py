"""A policy seen acting: pictures of an episode, beside what it is paid and how sure it is."""

from policygrad.watching.filmed import FilmedLanes, Told
from policygrad.watching.films import Film, check_film, check_package
from policygrad.watching.scenes import Scene, check_scene, open_scene, where_it_is_drawn

__all__ = [
    "Film",
    "FilmedLanes",
    "Scene",
    "Told",
    "check_film",
    "check_package",
    "check_scene",
    "open_scene",
    "where_it_is_drawn",
]
