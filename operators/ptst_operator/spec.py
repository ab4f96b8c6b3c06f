"""What a PTSTRun asks for. The custom resource's schema is made from these models; see `ptst_operator.crd`."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from visionr1.errors import BadInput
from visionr1.recipe import Recipe, parse_recipe
from visionr1.recipe.phases import SFT_PHASE, STAGE_PATTERN

METRICS_PORT: Final = 9464
"""Where the driver and SFT's rank 0 serve /metrics in a pod."""

MOST_STAGES: Final = 32
CHECKPOINT_NAME: Final = rf"^({SFT_PHASE}|{STAGE_PATTERN})/step-(0|[1-9][0-9]{{0,8}})$"

Items = list[dict[str, Any]]
Positive = Annotated[int, Field(ge=1)]


PART_CONFIG: Final = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)
"""Of every mapping of the custom resource: written in camelCase as Kubernetes does; only the recipe has its own snake_case."""


class SpecPart(BaseModel):
    """One mapping of the spec."""

    model_config = ConfigDict(**PART_CONFIG, frozen=True)


class Claim(SpecPart):
    """A PersistentVolumeClaim that many pods can mount at a time (ReadWriteMany)."""

    name: str = Field(
        description="Name of the claim, in the run's namespace; the operator's pod must mount it, too.", max_length=253
    )
    mount_path: str = Field("/runs", description="Where it is mounted, in every pod of the run.", pattern="^/", max_length=256)


class Storage(SpecPart):
    """Where the run directory is. It is never owned by the run and stays when the run is deleted."""

    url: str = Field(
        description="Run directory: s3://bucket/prefix, or a path below claim.mountPath.",
        pattern=r"^(s3://|/)[-A-Za-z0-9._=/]+$",
        max_length=1024,
    )
    claim: Claim | None = Field(None, description="The volume that holds a run directory that is a path.")


class Pods(SpecPart):
    """What pods look like. What is left out of a role's own is taken from `spec.pods`; lists are replaced, mappings merged."""

    image: str | None = Field(None, description="Trainer image, by tag or digest.", max_length=512)
    image_pull_policy: str | None = Field(None, description="Always, IfNotPresent or Never.", max_length=16)
    image_pull_secrets: Items = Field([], description="Secrets for the image's registry, as in a pod.")
    gpu_resource: str | None = Field(None, description="Resource name of a GPU; default nvidia.com/gpu.", max_length=128)
    resources: dict[str, Any] = Field({}, description="Requests and limits but for GPUs, which follow from the recipe.")
    shared_memory: str | None = Field(
        None, description="Size of /dev/shm, such as 64Gi; counts as memory of the pod.", max_length=32
    )
    env: dict[str, str] = Field({}, description="Environment variables, such as NCCL_IB_HCA.")
    env_from: Items = Field([], description="ConfigMaps and Secrets with environment variables, such as S3 keys.")
    volumes: Items = Field([], description="Further volumes, as in a pod.")
    volume_mounts: Items = Field([], description="Where the further volumes are mounted.")
    init_containers: Items = Field(
        [],
        description="Further containers, as in a pod: each runs before the run's own, or with restartPolicy Always beside it "
        "(Kubernetes 1.29). One that says nothing of its securityContext gets that of the run's own.",
    )
    labels: dict[str, str] = Field({}, description="Further labels of the pods.")
    annotations: dict[str, str] = Field({}, description="Annotations of the pods.")
    node_selector: dict[str, str] = Field({}, description="Labels that a node must have.")
    tolerations: Items = Field([], description="Taints that do not matter.")
    affinity: dict[str, Any] = Field({}, description="Affinity, as in a pod.")
    topology_spread_constraints: Items = Field([], description="How pods spread over nodes.")
    priority_class_name: str | None = Field(None, description="Priority class.", max_length=253)
    scheduler_name: str | None = Field(None, description="Another scheduler.", max_length=253)
    runtime_class_name: str | None = Field(None, description="Runtime class, such as nvidia.", max_length=253)
    service_account_name: str | None = Field(
        None, description="Service account, for cloud storage by workload identity; its token is not mounted.", max_length=253
    )
    run_as_user: int | None = Field(
        None,
        description="User and group id of all processes; default 1000. 0 sets none, for a cluster that gives each namespace its "
        "own ids (OpenShift).",
        ge=0,
    )
    fs_group: int | None = Field(None, description="Group that owns volumes; default runAsUser.", ge=1)


class SftPlatform(SpecPart):
    """How cold-start fine-tuning runs: a job with one pod a node and the recipe's sft.processes in each."""

    backend: Literal["auto", "pytorchjob", "trainjob"] = Field(
        "auto",
        description="pytorchjob: a PyTorchJob of the training-operator v1. trainjob: a TrainJob of Kubeflow Trainer v2. auto: "
        "the first of the two that the cluster has when an attempt begins.",
    )
    nodes: int = Field(1, ge=1, le=1024, description="Pods of the job.")
    pods: Pods = Field(default_factory=Pods, description="What differs from spec.pods.")


class GrpoPlatform(SpecPart):
    """How the stages run: a RayJob for each attempt at a stage, on one RayCluster that stays or with one of its own."""

    cluster: Literal["shared", "per-stage"] = Field(
        "shared",
        description="shared: one RayCluster keeps the GPUs through all stages. per-stage: each attempt brings its own and gives "
        "it back, for queues.",
    )
    workers_per_pod: int = Field(
        8,
        ge=1,
        le=16,
        description="Ray actors of one worker pod, each with a GPU; rollout.workers divided by it is the number of pods.",
    )
    head: Pods = Field(default_factory=Pods, description="What differs from spec.pods for the head, where the driver runs.")
    workers: Pods = Field(default_factory=Pods, description="What differs from spec.pods for the workers.")


class JobPlatform(SpecPart):
    """How cold-start data and evaluation run: a Job with one pod."""

    pods: Pods = Field(default_factory=Pods, description="What differs from spec.pods.")


class Gate(SpecPart):
    """What a stage must look like for the run to go on by itself."""

    metric: Literal["reward_mean", "completion_tokens_mean", "completion_truncated_ratio", "kl_mean"] = Field(
        description="A key of steps.jsonl."
    )
    steps: int = Field(20, ge=1, le=10_000, description="Its mean is taken over so many last steps of the stage.")
    min: float | None = Field(None, description="A smaller mean breaches the gate.")
    max: float | None = Field(None, description="A larger mean breaches the gate.")
    action: Literal["Hold", "Stop", "Rollback"] = Field(
        "Hold",
        description="What a breach does. Hold: looked at when a stage is done; the next one waits for a person. Stop: looked at "
        "with each checkpoint of the stage, too; it stops, gives its GPUs back and waits for a person. Rollback: as Stop, and "
        "the checkpoints after rollbackTo are deleted before it waits.",
    )
    rollback_to: str | None = Field(
        None,
        description="Checkpoint that Rollback goes back to, by its folder below `checkpoints`, such as stage-1/step-100; "
        "default: where the stage began.",
        pattern=CHECKPOINT_NAME,
    )


class RetryPolicy(SpecPart):
    """How often a phase may fail in a row without a new checkpoint, and the wait before each retry, which doubles."""

    max_attempts: int = Field(3, ge=1, le=10, description="Failures in a row that end the run.")
    first_wait_seconds: float = Field(10, ge=0, le=86_400, description="Wait before the first retry.")
    longest_wait_seconds: float = Field(300, ge=0, le=86_400, description="The wait doubles up to this.")


class Deadlines(SpecPart):
    """Times after which the operator acts by itself; it does not rely on the children's own deadlines."""

    pending_seconds: Positive | None = Field(
        None,
        description="An attempt that has not started to run by then has failed, and so has one whose RayCluster is not ready for "
        "so long; time in a queue does not count.",
    )
    attempt_seconds: Positive | None = Field(
        None, description="An attempt that has not ended by then has failed; counted again when a queue lets it in."
    )
    stop_seconds: int = Field(
        600, ge=1, le=86_400, description="Time to commit a checkpoint when an attempt is stopped; also the pods' grace period."
    )


class RecipeSource(SpecPart):
    """A recipe file in a ConfigMap of the run's namespace."""

    config_map: str = Field(description="Name of the ConfigMap.", max_length=253)
    key: str = Field("recipe.yaml", description="Its key that holds the recipe file.", max_length=253)


class Spec(SpecPart):
    """What is wanted."""

    recipe: dict[str, Any] | None = Field(
        None,
        description="The recipe, as in a recipe file: `preset` and what changes it, or all of it. Its stages may be extended at "
        "the end at any time; what has begun is frozen.",
    )
    recipe_from: RecipeSource | None = Field(None, description="The recipe as a file in a ConfigMap, in place of spec.recipe.")
    storage: Storage = Field(description="Where the run directory is; frozen.")
    pods: Pods = Field(description="What the pods of all roles look like.")
    sft: SftPlatform = Field(default_factory=SftPlatform, description="Pods of fine-tuning.")
    grpo: GrpoPlatform = Field(default_factory=GrpoPlatform, description="Pods of the GRPO stages.")
    coldstart: JobPlatform = Field(default_factory=JobPlatform, description="Pod that writes the cold-start data.")
    evaluate: JobPlatform = Field(default_factory=JobPlatform, description="Pod of the evaluation.")
    queue_labels: dict[str, str] = Field(
        {},
        description="Labels by which a queue or gang scheduler finds what brings pods (jobs, and the RayCluster or the RayJobs "
        "with their own), such as kueue.x-k8s.io/queue-name or kai.scheduler/queue.",
    )
    hold_before: list[Annotated[str, Field(max_length=32)]] = Field(
        [],
        max_length=40,
        description="Phases (sft, stage-1, stage-2, ..., evaluate) that wait for a person; the Held condition says how to go on.",
    )
    gates: list[Gate] = Field(
        [], max_length=16, description="Looked at while a stage runs and between two stages; a breach waits for a person."
    )
    suspend: bool = Field(False, description="True stops after a checkpoint and frees the GPUs; false goes on from there.")
    restarts: int = Field(0, ge=0, description="Raise it by one to let a failed run try again; failures before do not count.")
    retry: RetryPolicy = Field(default_factory=RetryPolicy, description="What happens when an attempt fails.")
    deadlines: Deadlines = Field(default_factory=Deadlines, description="When the operator gives up waiting.")
    allow_unequal_stages: bool = Field(
        False, description="Allow stages whose max_completion_tokens x group_size differ; PTST keeps it constant."
    )


def resolve_recipe(spec: Spec, run_name: str, file: str | None = None) -> Recipe:
    """The whole recipe of a run, as its pods read it: named as the run, with metrics that can be reached from other pods.

    Args:
        file: text of the recipe file that spec.recipeFrom names.

    Raises:
        BadInput: one line for each mistake.
    """
    recipe = _parsed(json.dumps(spec.recipe), "spec.recipe", run_name) if file is None else _parsed(file, "recipeFrom", run_name)
    if recipe.stages and recipe.rollout.workers % spec.grpo.workers_per_pod:
        raise BadInput(
            f"spec.grpo.workersPerPod: {spec.grpo.workers_per_pod} does not divide the recipe's rollout.workers "
            f"({recipe.rollout.workers}); every worker pod holds as many"
        )
    if len(recipe.stages) > MOST_STAGES:
        raise BadInput(f"stages: a run has at most {MOST_STAGES}")
    if len({stage.max_completion_tokens * stage.group_size for stage in recipe.stages}) > 1 and not spec.allow_unequal_stages:
        raise BadInput(
            "stages: PTST keeps max_completion_tokens x group_size the same in all stages; set spec.allowUnequalStages to "
            "true if you mean it"
        )
    return recipe


@lru_cache(maxsize=512)  # a run is looked at many times between changes of its spec
def _parsed(text: str, source: str, run_name: str) -> Recipe:
    own = [f"name={json.dumps(run_name)}", "metrics.enabled=true", "metrics.host=0.0.0.0", f"metrics.port={METRICS_PORT}"]
    return parse_recipe(text, source, own)
