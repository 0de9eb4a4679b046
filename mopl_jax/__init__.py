"""mopl_jax: from randomised scalarisation weights to new weights you can trust.

Every name below is imported when it is first used: `import mopl_jax` itself imports no JAX.
"""

from typing import TYPE_CHECKING

from mopl_jax.doors import opened

if TYPE_CHECKING:
    from mopl_jax import coverage, estimators, intervals, logs, metrics, planning, policies
    from mopl_jax import simulation as simulation
    from mopl_jax.coverage.run import coverage_study
    from mopl_jax.diagnostics.check import check_log
    from mopl_jax.estimators import ess
    from mopl_jax.evaluation.comparison import compare
    from mopl_jax.evaluation.evaluation import evaluate
    from mopl_jax.io.policy_json import read_policy, write_policy
    from mopl_jax.io.read import read_logs
    from mopl_jax.learning import constraints
    from mopl_jax.learning.arms import choose_arm
    from mopl_jax.learning.certification import certify
    from mopl_jax.learning.pipeline import learn, learn_contextual
    from mopl_jax.logs import Logs, split
    from mopl_jax.metrics.learnt_metric import learn_metric
    from mopl_jax.metrics.monitoring import monitor
    from mopl_jax.planning.designs import plan
    from mopl_jax.policies.deterministic import Deterministic, smooth
    from mopl_jax.policies.gaussian import Gaussian
    from mopl_jax.policies.mixture import Mixture
    from mopl_jax.policies.uniform import Uniform
    from mopl_jax.simulation.run import simulate

DOORS = {
    "Deterministic": "mopl_jax.policies.deterministic",
    "Gaussian": "mopl_jax.policies.gaussian",
    "Logs": "mopl_jax.logs",
    "Mixture": "mopl_jax.policies.mixture",
    "Uniform": "mopl_jax.policies.uniform",
    "certify": "mopl_jax.learning.certification",
    "check_log": "mopl_jax.diagnostics.check",
    "choose_arm": "mopl_jax.learning.arms",
    "compare": "mopl_jax.evaluation.comparison",
    "constraints": "mopl_jax.learning.constraints",
    "coverage": "mopl_jax.coverage",
    "coverage_study": "mopl_jax.coverage.run",
    "ess": "mopl_jax.estimators.ess",
    "estimators": "mopl_jax.estimators",
    "evaluate": "mopl_jax.evaluation.evaluation",
    "intervals": "mopl_jax.intervals",
    "learn": "mopl_jax.learning.pipeline",
    "learn_contextual": "mopl_jax.learning.pipeline",
    "learn_metric": "mopl_jax.metrics.learnt_metric",
    "logs": "mopl_jax.logs",
    "metrics": "mopl_jax.metrics",
    "monitor": "mopl_jax.metrics.monitoring",
    "plan": "mopl_jax.planning.designs",
    "planning": "mopl_jax.planning",
    "policies": "mopl_jax.policies",
    "read_logs": "mopl_jax.io.read",
    "read_policy": "mopl_jax.io.policy_json",
    "simulate": "mopl_jax.simulation.run",
    "simulation": "mopl_jax.simulation",
    "smooth": "mopl_jax.policies.deterministic",
    "split": "mopl_jax.logs",
    "write_policy": "mopl_jax.io.policy_json",
}

__all__ = [
    "Deterministic",
    "Gaussian",
    "Logs",
    "Mixture",
    "Uniform",
    "certify",
    "check_log",
    "choose_arm",
    "compare",
    "constraints",
    "coverage",
    "coverage_study",
    "ess",
    "estimators",
    "evaluate",
    "intervals",
    "learn",
    "learn_contextual",
    "learn_metric",
    "logs",
    "metrics",
    "monitor",
    "plan",
    "planning",
    "policies",
    "read_logs",
    "read_policy",
    "simulate",
    "simulation",
    "smooth",
    "split",
    "write_policy",
]

__getattr__, __dir__ = opened(__name__, DOORS)
