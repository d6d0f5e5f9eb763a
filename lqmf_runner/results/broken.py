"""Results that cannot be trusted: of no working quantization, or from a machine with other load."""

from __future__ import annotations

from .quality import Quality

MOST_KLD = 2.0
LEAST_TOP1 = 0.1
MOST_PERPLEXITY_RATIO = 10.0
LEAST_HEURISTIC = 0.5
BUSY_CORES = 0.25  # cores that other programs use while speed is measured
_ALIKE = 0.1  # with a smaller KLD, two flat distributions merely have different peaks


def why_broken(quality: Quality) -> str | None:
    """What cannot be in figures against a reference, in words; None where they are possible.

    Even a quantization to two bits stays within the limits. What is beyond them has damaged or mislabelled weights, or
    was loaded in a wrong way.
    """
    said = []
    kld = quality.kld.mean if quality.kld else None
    if kld is not None and kld > MOST_KLD:
        said.append(f"KLD {kld:.2f}")
    top1 = quality.top1_agreement
    if top1 is not None and top1 < LEAST_TOP1 and (kld is None or kld > _ALIKE):
        said.append(f"top-1 {top1 * 100:.1f} %")
    ratio = quality.perplexity_ratio
    if ratio is not None and ratio > MOST_PERPLEXITY_RATIO:
        said.append(f"perplexity {ratio:,.0f} times the reference's")
    if not said:
        return None
    return f"broken ({', '.join(said)}): no working quantization is so far from its reference"
