"""What NVIDIA says its GPUs can do at most: dense bf16 (fp16 where there is no bf16) tensor operations per second.

The figures are those of the named data sheets; where a sheet gives the number "with sparsity", half of it.
"""

#: the first one whose words are all in the device's name counts
PEAKS: tuple[tuple[tuple[str, ...], float, str], ...] = (
    (("GB200",), 2500e12, "NVIDIA GB200 NVL72 data sheet, per GPU, half of the figure with sparsity"),
    (("B200",), 2250e12, "NVIDIA DGX B200 data sheet, per GPU, half of the figure with sparsity"),
    (("H200", "NVL"), 835.5e12, "NVIDIA H200 Tensor Core GPU data sheet, NVL, half of the figure with sparsity"),
    (("H200",), 989.5e12, "NVIDIA H200 Tensor Core GPU data sheet, SXM, half of the figure with sparsity"),
    (("H100", "PCIe"), 756e12, "NVIDIA H100 Tensor Core GPU data sheet, PCIe, half of the figure with sparsity"),
    (("H100", "NVL"), 835.5e12, "NVIDIA H100 Tensor Core GPU data sheet, NVL, half of the figure with sparsity"),
    (("H100",), 989.5e12, "NVIDIA H100 Tensor Core GPU data sheet, SXM, half of the figure with sparsity"),
    (("A100",), 312e12, "NVIDIA A100 Tensor Core GPU data sheet"),
    (("A10",), 125e12, "NVIDIA A10 Tensor Core GPU data sheet"),
    (("L40S",), 362e12, "NVIDIA L40S data sheet, half of the figure with sparsity"),
    (("L4",), 121e12, "NVIDIA L4 data sheet, half of the figure with sparsity"),
    (("V100", "PCIE"), 112e12, "NVIDIA V100 Tensor Core GPU data sheet, PCIe, fp16"),
    (("V100",), 125e12, "NVIDIA V100 Tensor Core GPU data sheet, SXM2, fp16"),
    (("T4",), 65e12, "NVIDIA T4 data sheet, fp16"),
)


def peak_of(device: str | None) -> tuple[float | None, str]:
    """Return a device's peak and where it is said; None where it is not known."""
    words = (device or "").replace("-", " ").split()
    for wanted, peak, source in PEAKS:
        if all(word in words for word in wanted):
            return peak, source
    return None, f"no data sheet is known for {device}" if device else "not a GPU"
