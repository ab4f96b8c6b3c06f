"""Cards are recognised by what drivers and node labels call them, and `--gpus` is read or refused in one line."""

import pytest

from visionr1.capacity.cards import CARDS, DESCRIBED, card_of_driver, parse_fleet
from visionr1.errors import BadInput


@pytest.mark.parametrize(
    ("driver", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA-H100-80GB-HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100-PCIe"),
        ("NVIDIA H100 NVL", "H100-NVL"),
        ("NVIDIA H800", "H800"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA H20", "H20"),
        ("NVIDIA A100-SXM4-40GB", "A100-40GB"),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA A800-SXM4-80GB", "A800"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L20", "L20"),
        ("NVIDIA B200", "B200"),
        ("AMD Instinct MI300X OAM", "MI300X"),
    ],
)
def test_a_driver_s_name_is_a_card(driver: str, name: str) -> None:
    card = card_of_driver(driver)
    assert card is not None and card.name == name


@pytest.mark.parametrize("driver", ["NVIDIA GeForce RTX 4090", "NVIDIA L4", "NVIDIA GH200 480GB", ""])
def test_another_card_is_not_taken_for_one_of_them(driver: str) -> None:
    assert card_of_driver(driver) is None


def test_every_card_can_be_asked_for_by_its_name() -> None:
    assert [parse_fleet(f"8x{card.name.lower()}").card for card in CARDS] == list(CARDS)


def test_a_fleet_is_a_number_and_a_card() -> None:
    fleet = parse_fleet("60xH800")
    assert (fleet.count, fleet.nodes, str(fleet)) == (60, 8, "60 x H800")
    assert parse_fleet("8 x A100-40").card.gib < 40 < parse_fleet("8xA100").card.gib


def test_a_card_that_is_not_in_the_list_is_described() -> None:
    card = parse_fleet(f"8x{DESCRIBED}").card
    assert (card.gib, card.flops, card.bandwidth, card.link) == (80, 989e12, 3.35e12, 900e9)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("H800", "'H800' is no number of GPUs; write NUMBERxCARD"),
        ("0xH800", "is no number of GPUs"),
        ("8xV100", "'V100' is no card that is known here"),
        ("8x{memory: 80}", "does not describe a card; give memory"),
        ("8x{memory: -1, tflops: 1, bandwidth: 1, link: 1}", "does not describe a card"),
        ("8x{memory: [", "does not describe a card"),
    ],
)
def test_what_is_no_fleet_is_one_line(text: str, expected: str) -> None:
    with pytest.raises(BadInput) as error:
        parse_fleet(text)
    assert expected in str(error.value) and "\n" not in str(error.value)
