"""What a PTSTRun asks for. The custom resource's schema is made from these models; see `ptst_operator.crd`."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.alias_generators import to_camel

from ptst_operator.quantities import odd_resources
from ptst_operator.rules import OWN_LABELS, RAY_AUTH
from visionr1.errors import BadInput, printable
from visionr1.metrics.listening import ALL
from visionr1.recipe import Recipe, parse_recipe
from visionr1.recipe.phases import SFT_PHASE, STAGE_PATTERN

METRICS_PORT: Final = 9464
"""Where the driver and SFT's rank 0 serve /metrics in a pod."""

MOST_ID: Final = (1 << 32) - 2
"""The largest user or group id of Linux."""
CHECKPOINT_NAME: Final = rf"^({SFT_PHASE}|{STAGE_PATTERN})/step-(0|[1-9][0-9]{{0,8}})$"

SIZE: Final = r"^[0-9]+([.][0-9]+)?([kMGTPE]|[KMGTPE]i)?$"
"""A number of bytes, as Kubernetes writes it."""

Items = list[dict[str, Any]]
Seconds = Annotated[int, Field(ge=1, le=365 * 86_400)]


PART_CONFIG: Final = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)
"""For every mapping of the custom resource. Keys are camelCase, as in Kubernetes. Only the recipe's are snake_case."""


class SpecPart(BaseModel):
    """One mapping of the spec."""

    model_config = ConfigDict(**PART_CONFIG, frozen=True)


class Claim(SpecPart):
    """A PersistentVolumeClaim that many pods can mount at the same time (ReadWriteMany)."""

    name: str = Field(
        description="Name of the claim, in the run's namespace. The operator's pod must mount it, too.", max_length=253
    )
    mount_path: str = Field("/runs", description="Where every pod of the run mounts it.", pattern="^/", max_length=256)


class Storage(SpecPart):
    """Where the run directory is. It stays when the run is deleted."""

    @field_validator("url")
    @classmethod
    def _stays_below_its_mount(cls, url: str) -> str:
        if ".." in url.split("/"):
            raise ValueError("it must not contain '..'")
        return url

    url: str = Field(
        description="The run directory: s3://bucket/prefix, or a path below claim.mountPath.",
        pattern=r"^(s3://|/)[-A-Za-z0-9._=/]+$",
        max_length=1024,
    )
    claim: Claim | None = Field(None, description="The volume of the run directory, if the url is a path.")


class Pods(SpecPart):
    """What pods look like. `spec.pods` fills in what a role's own part leaves out. Lists are replaced, mappings merged."""

    @field_validator("env", "env_value_from")
    @classmethod
    def _keeps_ray_locked(cls, env: dict[str, Any]) -> dict[str, Any]:
        if found := [name for name in RAY_AUTH if name in env]:
            raise ValueError(f"{found[0]} is set by KubeRay, so that Ray asks for a token: remove it")
        return env

    @field_validator("labels")
    @classmethod
    def _claim_no_other_run(cls, labels: dict[str, str]) -> dict[str, str]:
        if found := [name for name in labels if name.startswith(OWN_LABELS)]:
            raise ValueError(
                f"{printable(found[0])} is set by the operator or by Kubernetes, and tells which run a pod belongs to: remove it"
            )
        return labels

    @field_validator("resources")
    @classmethod
    def _can_be_counted(cls, resources: dict[str, Any]) -> dict[str, Any]:
        if wrong := odd_resources(resources):
            raise ValueError(wrong)
        return resources

    image: str | None = Field(None, description="Trainer image, with its tag or digest.", max_length=512)
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        None, description="When a node pulls the image. Default: IfNotPresent."
    )
    image_pull_secrets: Items = Field([], description="Secrets for the registry of the image, as in a pod.")
    gpu_resource: str | None = Field(None, description="Resource name of a GPU. Default: nvidia.com/gpu.", max_length=128)
    resources: dict[str, Any] = Field(
        {},
        description="Requests and limits. Default: GPUs from the recipe, CPUs and memory from the plan. GPUs may be more than "
        "the recipe needs, not fewer. CPUs or memory that you name are yours alone: nothing is added to them.",
    )
    shared_memory: str | None = Field(
        None,
        description="Size of /dev/shm, such as 64Gi. It counts as memory of the pod. Default: what the node gives, mostly 64Mi; "
        "1Gi and 1Gi more per GPU for an evaluation with several engines.",
        max_length=32,
        pattern=SIZE,
    )
    scratch: str | None = Field(
        None,
        description="Most that a pod may write to /tmp: models, spilled objects, checkpoints on their way to S3. Default: 512Gi.",
        max_length=32,
        pattern=SIZE,
    )
    env: dict[str, str] = Field({}, description="Environment variables, such as NCCL_IB_HCA.")
    env_value_from: dict[str, dict[str, Any]] = Field(
        {}, description="Environment variables from a Secret, a ConfigMap or the pod, by name: what a pod has in `valueFrom`."
    )
    env_from: Items = Field([], description="ConfigMaps and Secrets with environment variables, such as S3 keys.")
    volumes: Items = Field([], description="More volumes, as in a pod.")
    volume_mounts: Items = Field([], description="Where these volumes are mounted.")
    init_containers: Items = Field(
        [],
        description="More containers, as in a pod. Each runs before the run's own container, or at the same time with "
        "restartPolicy Always (Kubernetes 1.29). A container without a securityContext gets that of the run's own container.",
    )
    labels: dict[str, str] = Field({}, description="More labels of the pods.")
    annotations: dict[str, str] = Field({}, description="Annotations of the pods.")
    node_selector: dict[str, str] = Field({}, description="Labels that a node must have.")
    tolerations: Items = Field([], description="Taints that the pods tolerate, as in a pod.")
    affinity: dict[str, Any] = Field({}, description="Affinity, as in a pod.")
    topology_spread_constraints: Items = Field([], description="How pods spread over nodes, as in a pod.")
    priority_class_name: str | None = Field(None, description="Priority class.", max_length=253)
    scheduler_name: str | None = Field(None, description="Name of the scheduler, if not the default one.", max_length=253)
    runtime_class_name: str | None = Field(None, description="Runtime class, such as nvidia.", max_length=253)
    service_account_name: str | None = Field(
        None,
        description="Service account. Use it to reach cloud storage by workload identity. Its token is not mounted.",
        max_length=253,
    )
    run_as_user: int | None = Field(
        None,
        description="User and group id of all processes. Default: 1000. 0 sets none, for a cluster that gives each namespace its "
        "own ids (OpenShift).",
        ge=0,
        le=MOST_ID,
    )
    fs_group: int | None = Field(None, description="Group that owns volumes. Default: runAsUser.", ge=1, le=MOST_ID)


class SftPlatform(SpecPart):
    """How cold-start fine-tuning runs: a job with one pod per node, each with the recipe's sft.processes."""

    backend: Literal["auto", "pytorchjob", "trainjob"] = Field(
        "auto",
        description="trainjob: a TrainJob of Kubeflow Trainer v2, what new clusters have. pytorchjob: a PyTorchJob of the "
        "training-operator v1. auto: a PyTorchJob if the cluster has them when an attempt begins, else a TrainJob.",
    )
    nodes: int = Field(1, ge=1, le=1024, description="Number of pods of the job.")
    pods: Pods = Field(default_factory=Pods, description="How these pods differ from spec.pods.")


class GrpoPlatform(SpecPart):
    """How the stages run: a RayJob per attempt at a stage, on one RayCluster for all or with its own RayCluster."""

    cluster: Literal["shared", "per-stage"] = Field(
        "shared",
        description="shared: one RayCluster keeps the GPUs through all stages. per-stage: each attempt has its own RayCluster "
        "and gives the GPUs back at its end. Use that with a queue.",
    )
    workers_per_pod: int = Field(
        8,
        ge=1,
        le=16,
        description="Ray actors per worker pod, each with one GPU. The number of pods is rollout.workers divided by this.",
    )
    min_workers: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Fewest workers that a stage may begin with, after deadlines.workersSeconds. Default: it waits for all.",
    )
    head: Pods = Field(default_factory=Pods, description="How the head pod, where the driver runs, differs from spec.pods.")
    workers: Pods = Field(default_factory=Pods, description="How the worker pods differ from spec.pods.")


class JobPlatform(SpecPart):
    """How the evaluation runs: a Job with one pod."""

    pods: Pods = Field(default_factory=Pods, description="How these pods differ from spec.pods.")


class ColdstartPlatform(SpecPart):
    """How cold-start data is written: by a Job with one pod, or by a RayJob with its own RayCluster if a teacher has workers."""

    pods: Pods = Field(
        default_factory=Pods, description="How the pod that asks the teachers differs from spec.pods. In a RayJob it is the head."
    )
    workers: Pods = Field(
        default_factory=Pods,
        description="How the pods of the teachers' workers differ from spec.pods. There is one for each worker, with the GPUs of "
        "its tensor_parallel.",
    )


class Gate(SpecPart):
    """Bounds for a metric of a stage. If a stage is out of them, the run waits for a person."""

    metric: Literal["reward_mean", "completion_tokens_mean", "completion_truncated_ratio", "kl_mean"] = Field(
        description="A key of steps.jsonl."
    )
    steps: int = Field(20, ge=1, le=10_000, description="How many of the stage's last steps the mean is taken over. Default: 20.")
    min: float | None = Field(None, description="Least mean that passes the gate.")
    max: float | None = Field(None, description="Largest mean that passes the gate.")
    action: Literal["Hold", "Stop", "Rollback"] = Field(
        "Hold",
        description="What happens if a stage does not pass. Hold: checked when a stage is done; the next one waits for a person. "
        "Stop: also checked at each checkpoint; the stage stops, gives its GPUs back and waits for a person. Rollback: as Stop, "
        "and all checkpoints after rollbackTo are deleted. Default: Hold.",
    )
    rollback_to: str | None = Field(
        None,
        description="Checkpoint that Rollback goes back to: its folder below `checkpoints`, such as stage-1/step-100. "
        "Default: the checkpoint that the stage began from.",
        pattern=CHECKPOINT_NAME,
    )


class RetryPolicy(SpecPart):
    """How often a phase may fail in a row without a new checkpoint, and how long each retry waits."""

    max_attempts: int = Field(3, ge=1, le=10, description="The run fails after this many failures in a row.")
    first_wait_seconds: float = Field(
        10, ge=0, le=86_400, description="Wait before the first retry. It doubles with each further one."
    )
    longest_wait_seconds: float = Field(300, ge=0, le=86_400, description="Longest wait before a retry.")


class Deadlines(SpecPart):
    """Times after which the operator ends an attempt. It does not use the deadlines of Kubernetes' own kinds."""

    pending_seconds: Seconds | None = Field(
        None,
        description="An attempt fails if it does not run after this time, or if its RayCluster is not ready after this time. "
        "Time in a queue does not count.",
    )
    attempt_seconds: Seconds | None = Field(
        None,
        description="An attempt fails if it has not ended after this time. It starts again when a queue lets the attempt in.",
    )
    workers_seconds: Seconds = Field(
        600, description="How long a stage waits for all of its workers, if fewer are enough (grpo.minWorkers)."
    )
    stop_seconds: int = Field(
        600,
        ge=1,
        le=86_400,
        description="Time to commit a checkpoint when an attempt is stopped, and to end when its phase is done. Also the pods' "
        "grace period.",
    )


class RecipeSource(SpecPart):
    """A recipe file in a ConfigMap of the run's namespace."""

    # The name becomes part of an address that the operator asks with its own rights: no slash, no question mark.
    config_map: str = Field(description="Name of the ConfigMap.", max_length=253, pattern="^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    key: str = Field(
        "recipe.yaml", description="Key of the recipe file in the ConfigMap.", max_length=253, pattern="^[-._a-zA-Z0-9]+$"
    )


class Spec(SpecPart):
    """What the run should be."""

    recipe: dict[str, Any] | None = Field(
        None,
        description="The recipe, as in a recipe file: `preset` and the changes to it, or the whole recipe. You may add stages at "
        "the end at any time. Stages that have begun cannot be changed.",
    )
    recipe_from: RecipeSource | None = Field(None, description="The recipe as a file in a ConfigMap, instead of spec.recipe.")
    storage: Storage = Field(description="Where the run directory is. It cannot be changed.")
    pods: Pods = Field(description="What the pods of all roles look like.")
    sft: SftPlatform = Field(default_factory=SftPlatform, description="How fine-tuning runs.")
    grpo: GrpoPlatform = Field(default_factory=GrpoPlatform, description="How the GRPO stages run.")
    coldstart: ColdstartPlatform = Field(default_factory=ColdstartPlatform, description="How the cold start's data is written.")
    evaluate: JobPlatform = Field(default_factory=JobPlatform, description="How the evaluation runs.")
    queue_labels: dict[str, str] = Field(
        {},
        description="Labels for a queue or gang scheduler, such as kueue.x-k8s.io/queue-name or kai.scheduler/queue. The jobs "
        "get them, and the RayCluster or the RayJobs with their own.",
    )
    hold_before: list[Annotated[str, Field(max_length=32)]] = Field(
        [],
        max_length=40,
        description="Phases (sft, stage-1, stage-2, ..., evaluate) that wait for a person. "
        "The Held condition has the command that starts the phase.",
    )
    gates: list[Gate] = Field(
        [],
        max_length=16,
        description="Checked while a stage runs and between two stages. A stage that does not pass waits for a person.",
    )
    suspend: bool = Field(False, description="true stops after a checkpoint and frees the GPUs. false continues from there.")
    restarts: int = Field(
        0, ge=0, le=1_000_000, description="Raise it by one to let a failed run try again. Earlier failures then no longer count."
    )
    retry: RetryPolicy = Field(default_factory=RetryPolicy, description="What happens when an attempt fails.")
    deadlines: Deadlines = Field(default_factory=Deadlines, description="How long the operator waits.")
    allow_unequal_stages: bool = Field(
        False, description="Allow stages with different max_completion_tokens x group_size. PTST keeps it constant."
    )


def resolve_recipe(spec: Spec, run_name: str, file: str | None = None) -> Recipe:
    """The whole recipe of a run, as its pods read it. It has the run's name, and its metrics can be reached from other pods.

    Args:
        file: text of the recipe file that spec.recipeFrom names.

    Raises:
        BadInput: one line for each mistake.
    """
    text, source = (json.dumps(spec.recipe), "spec.recipe") if file is None else (file, "recipeFrom")
    recipe = _parsed(text, source, run_name)
    if isinstance(recipe, str):
        raise BadInput(recipe)
    if recipe.stages and recipe.rollout.workers % spec.grpo.workers_per_pod:
        raise BadInput(
            f"spec.grpo.workersPerPod: {spec.grpo.workers_per_pod} does not divide the recipe's rollout.workers "
            f"({recipe.rollout.workers}); all worker pods have the same number of workers"
        )
    if wrong := _wrong_min_workers(spec.grpo, recipe):
        raise BadInput(f"spec.grpo.minWorkers: {wrong}")
    if recipe.reward.file is not None and recipe.reward.sha256 is None:
        raise BadInput(
            f"reward.sha256 is missing: pods load a function of your own only from a file with this hash; set it to what "
            f"sha256sum {recipe.reward.file.rpartition('/')[2]} shows"
        )
    if len({stage.max_completion_tokens * stage.group_size for stage in recipe.stages}) > 1 and not spec.allow_unequal_stages:
        raise BadInput(
            "stages: PTST keeps max_completion_tokens x group_size the same in all stages; set spec.allowUnequalStages to "
            "true if you mean it"
        )
    return recipe


def _wrong_min_workers(grpo: GrpoPlatform, recipe: Recipe) -> str | None:
    """What is wrong with minWorkers for this recipe, if anything."""
    least, most, per_pod = grpo.min_workers, recipe.rollout.workers, grpo.workers_per_pod
    if least is None or not recipe.stages:
        return None
    if least > most:
        return f"{least} is more than the recipe's rollout.workers ({most})"
    fewer = recipe.fewer_workers(per_pod)
    if least < most and (not fewer or fewer[0] < least):
        shown = (
            f"the recipe allows {', '.join(map(str, reversed(fewer[:3])))}" if fewer else "the recipe allows no smaller number"
        )
        return (
            f"from {least} to {most - 1} there is no number of workers that divides algorithm.prompts_per_step "
            f"({recipe.algorithm.prompts_per_step}) and is a multiple of workersPerPod ({per_pod}) and of every stage's "
            f"tensor_parallel; {shown}"
        )
    return None


@lru_cache(maxsize=512)  # the operator looks at a run many times before its spec changes, also at one that it refuses
def _parsed(text: str, source: str, run_name: str) -> Recipe | str:
    """The recipe, or what is wrong with it."""
    own = [
        f"name={json.dumps(run_name)}",
        "metrics.enabled=true",
        f"metrics.host={json.dumps(ALL)}",
        f"metrics.port={METRICS_PORT}",
    ]
    try:
        return parse_recipe(text, source, own)
    except BadInput as error:
        return str(error)
