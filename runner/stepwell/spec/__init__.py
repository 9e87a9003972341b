"""What a function is: one model that decorators fill, manifests parse into and the CRD is made from.

`duration` reads and writes lengths of time, `function` is the model, `fault` tells people what is wrong with one,
`manifest` reads and writes `DurableFunction` objects.
"""

from stepwell.spec.function import FunctionSpec

__all__ = ["FunctionSpec"]
