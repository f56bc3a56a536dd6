"""Every fault, family by family."""

from samples.fault_injection import (
    attention_faults,
    equivalent_faults,
    fact_faults,
    file_faults,
    float16_faults,
    lookup_faults,
    operator_faults,
    parameter_faults,
    product_faults,
    quantizer_faults,
    report_faults,
    scale_faults,
    weight_faults,
)
from samples.fault_injection.fault import Fault

__all__ = ["FAULTS"]

FAULTS: tuple[Fault, ...] = (
    *weight_faults.FAULTS,
    *scale_faults.FAULTS,
    *quantizer_faults.FAULTS,
    *parameter_faults.FAULTS,
    *attention_faults.FAULTS,
    *operator_faults.FAULTS,
    *lookup_faults.FAULTS,
    *product_faults.FAULTS,
    *float16_faults.FAULTS,
    *file_faults.FAULTS,
    *fact_faults.FAULTS,
    *report_faults.FAULTS,
    *equivalent_faults.FAULTS,
)
