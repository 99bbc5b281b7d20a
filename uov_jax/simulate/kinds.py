"""The kinds of surface in the simulated world and the nuScenes label and words of each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Kind(NamedTuple):
    """One kind of surface: ``raw`` is the nuScenes-lidarseg index, ``words`` the fitting words.

    No words means every word of the raw index's groups fits. ``countable`` kinds come as separate
    objects, the others as one region per image.
    """

    name: str
    raw: int
    words: tuple[str, ...] = ()
    countable: bool = False


KINDS: tuple[Kind, ...] = (
    Kind("sky", 29, ("sky", "cloudy sky", "clear sky", "overcast")),
    Kind("road", 24, ("driveable surface", "highway", "cement road", "asphalt road", "road")),
    Kind("sidewalk", 26, ("walkway", "sidewalk")),
    Kind("bike_path", 26, ("bike path",)),
    Kind("grass", 27, ("grass", "ground level horizontal vegetation (< 20 cm tall)")),
    Kind("soil", 27, ("soil", "sand", "earth")),
    Kind("rail_track", 25, ("rail track",)),
    Kind("low_stairs", 25, ("stairs with at most 3 steps",)),
    Kind(
        "building",
        28,
        ("building", "house", "premises", "structure", "one side of the building", "brick wall"),
    ),
    Kind("wall", 28, ("wall", "brick wall", "structure")),
    Kind("fence", 28, ("fence", "guard rail")),
    Kind("pole", 28, ("pole", "utility pole")),
    Kind("street_lamp", 28, ("street lamp", "lamp", "pole")),
    Kind("sign", 28, ("street sign", "road sign", "signboard")),
    Kind("billboard", 28, ("billboard", "banner", "signboard")),
    Kind("traffic_light", 28, ("traffic light",)),
    Kind("bus_shelter", 28, ("bus shelter", "pavilion")),
    Kind("bench", 28, ("bench",)),
    Kind("trash_bin", 28, ("trash bin without wheels",)),
    Kind("hydrant", 28, ("hydrant", "fire hydrant")),
    Kind("electric_box", 28, ("electric circuit box", "cell box")),
    Kind("tree", 30, ("tree",)),
    Kind("bush", 30, ("bush", "plant")),
    Kind("potted_plant", 30, ("potted plant", "plant")),
    Kind("car", 17, (), True),
    Kind("truck", 23, (), True),
    Kind("bus", 16, (), True),
    Kind("bendy_bus", 15, (), True),
    Kind("trailer", 22, (), True),
    Kind("construction_vehicle", 18, (), True),
    Kind("motorcycle", 21, (), True),
    Kind("bicycle", 14, (), True),
    Kind("police_car", 20, ("police vehicle", "police car"), True),
    Kind("ambulance", 19, (), True),
    Kind("adult", 2, (), True),
    Kind("child", 3, (), True),
    Kind("construction_worker", 4, (), True),
    Kind("police_officer", 6, (), True),
    Kind("stroller", 7, (), True),
    Kind("animal", 1, ("animal", "dog"), True),
    Kind("traffic_cone", 12, (), True),
    Kind("barrier", 9, (), True),
    Kind("bicycle_rack", 13, (), True),
    Kind("pushable", 11, ("garbage-bin with wheels", "shopping cart"), True),
    Kind("debris", 10, (), True),
    Kind("ego", 31, ("bonnet under the picture",)),
)
KIND: dict[str, int] = {kind.name: index for index, kind in enumerate(KINDS)}
RAW_OF_KIND = np.array([kind.raw for kind in KINDS], np.uint8)

# nuScenes-lidarseg's category.json: the index of a name is its raw label.
CATEGORIES: tuple[tuple[str, str], ...] = (
    ("noise", "Any return that does not correspond to a physical object."),
    ("animal", "All animals, e.g. cats, rats, dogs, deer, birds."),
    ("human.pedestrian.adult", "Adult subcategory."),
    ("human.pedestrian.child", "Child subcategory."),
    ("human.pedestrian.construction_worker", "Construction worker."),
    ("human.pedestrian.personal_mobility", "A small electric or self-propelled vehicle."),
    ("human.pedestrian.police_officer", "Police officer."),
    ("human.pedestrian.stroller", "Strollers, with the person in them if any."),
    ("human.pedestrian.wheelchair", "Wheelchairs, with the person in them if any."),
    ("movable_object.barrier", "Temporary road barriers used to redirect traffic."),
    ("movable_object.debris", "Movable object left on the driveable surface."),
    ("movable_object.pushable_pullable", "Objects that a pedestrian may push or pull."),
    ("movable_object.trafficcone", "All types of traffic cones."),
    ("static_object.bicycle_rack", "Area or device for parking bicycles."),
    ("vehicle.bicycle", "Human or electric powered two-wheeled vehicle, with its rider."),
    ("vehicle.bus.bendy", "Bendy bus, each section of the vehicle."),
    ("vehicle.bus.rigid", "Rigid bus."),
    ("vehicle.car", "Vehicle designed primarily for personal use."),
    ("vehicle.construction", "Vehicles primarily designed for construction."),
    ("vehicle.emergency.ambulance", "All types of ambulances."),
    ("vehicle.emergency.police", "All types of police vehicles."),
    ("vehicle.motorcycle", "Gasoline or electric powered two-wheeled vehicle, with its rider."),
    ("vehicle.trailer", "Any vehicle trailer, for trucks, cars and bikes."),
    ("vehicle.truck", "Vehicles primarily designed to haul cargo."),
    ("flat.driveable_surface", "All paved or unpaved surfaces that a car can drive on."),
    ("flat.other", "Other horizontal ground-level structures: rail tracks, low stairs, water."),
    ("flat.sidewalk", "Sidewalk, pedestrian walkways, bike paths."),
    ("flat.terrain", "Natural horizontal surfaces: soil, grass, sand."),
    ("static.manmade", "Man-made structures: buildings, walls, fences, poles, signs."),
    ("static.other", "Points in the background that are not distinguishable."),
    ("static.vegetation", "Any vegetation higher than the ground: bushes, plants, trees."),
    ("vehicle.ego", "The vehicle on which the sensors are mounted."),
)
EGO_RAW = 31
