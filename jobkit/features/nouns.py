"""`Nouns`: what a kit has of the features, loaded when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobkit.feature import NounOf, VerbOf

if TYPE_CHECKING:
    from jobkit.features.archive.kit import Archive
    from jobkit.features.audit.kit import KitAudit
    from jobkit.features.batches.kit import KitBatches
    from jobkit.features.checkpoints.kit import KitCheckpoints
    from jobkit.features.failures.kit import Failures
    from jobkit.features.limits.kit import KitLimits
    from jobkit.features.mercure.kit import KitMercure
    from jobkit.features.metrics.kit import KitMetrics
    from jobkit.features.pools.kit import KitPools, Pools
    from jobkit.features.provenance.kit import KitMadeBy
    from jobkit.features.questions.kit import Questions
    from jobkit.features.schedules.kit import KitSchedules, Schedules
    from jobkit.features.studies.kit import Studies

    class _Typed(KitAudit, KitCheckpoints, KitMadeBy, KitMercure, KitMetrics, KitPools, KitSchedules):
        pass
else:
    _Typed = object


class Nouns(_Typed):
    """Base of the kit, with a line for each feature that has a noun."""

    archive: NounOf[Archive] = NounOf("Archive")
    batches: NounOf[KitBatches] = NounOf("KitBatches")
    failures: NounOf[Failures] = NounOf("Failures")
    limits: NounOf[KitLimits] = NounOf("KitLimits")
    pools: NounOf[Pools] = NounOf("Pools")
    questions: NounOf[Questions] = NounOf("Questions")
    schedules: NounOf[Schedules] = NounOf("Schedules")
    studies: NounOf[Studies] = NounOf("Studies")
    if not TYPE_CHECKING:
        audit = VerbOf("audit", "KitAudit.audit")
        checkpoints = VerbOf("checkpoints", "KitCheckpoints.checkpoints")
        made_by = VerbOf("provenance", "KitMadeBy.made_by")
        metrics = VerbOf("metrics", "KitMetrics.metrics")
        metric_lines = VerbOf("metrics", "KitMetrics.metric_lines")
        metrics_of = VerbOf("metrics", "KitMetrics.metrics_of")
        publish = VerbOf("mercure", "KitMercure.publish")
        pool = VerbOf("pools", "KitPools.pool")
        schedule = VerbOf("schedules", "KitSchedules.schedule")
