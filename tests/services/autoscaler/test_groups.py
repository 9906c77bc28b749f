"""Labels of containers, read as groups of workers."""

import pytest

from services.autoscaler.engine import Container, ContainerState
from services.autoscaler.groups import grouped
from shared.domain.errors import InputRefused
from shared.domain.plan import SERVICES


def container(name: str, state: ContainerState = ContainerState.STOPPED, **labels: str) -> Container:
    return Container(name, state, None, {f"multifacet.{key.replace('_', '-')}": text for key, text in labels.items()})


def test_containers_of_the_same_roles_make_a_group_in_whatever_order_they_name_them() -> None:
    found = grouped(
        [
            container("a", ContainerState.RUNNING, roles="generation,composition", maximum="5", minimum="1"),
            container("b", ContainerState.CRASHING, roles="composition, generation", maximum="5", minimum="1"),
            container("c", roles="all"),
            container("d", roles="training", gpu_host="big", steps="1"),
            container("e", roles="training"),
        ]
    )
    assert [(group.name, len(group.containers), group.running) for group in found] == [
        ("all", 1, 0),
        ("composition,generation", 2, 2),
        ("training", 1, 0),
        ("training@big", 1, 0),
    ]
    both = found[1]
    assert (both.minimum, both.maximum, both.steps_per_worker) == (1, 2, 4), "no more can run than there are"
    assert found[0].roles == tuple(sorted(SERVICES))
    assert (found[3].gpu_host, found[3].steps_per_worker) == ("big", 1)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ({"roles": "cooking"}, "'cooking'"),
        ({"roles": "all", "maximum": "many"}, "multifacet.maximum of a container is 'many'"),
        ({"roles": "all", "steps": "0"}, "from 1 on"),
        ({"roles": "all", "minimum": "-1"}, "from 0 on"),
    ],
)
def test_a_label_that_cannot_be_read_is_told(labels: dict[str, str], told: str) -> None:
    with pytest.raises(InputRefused, match=told):
        grouped([container("a", **labels)])
