//! Which weights the CPU kernels repack into another layout.

use crate::ElementType;

/// What ggml's CPU kernels repack while a model is loaded: such a matrix takes its size
/// again in the process's own memory, and its pages of the file are not read again. The
/// sets are those of `ggml_repack_get_optimal_repack_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Repack {
    /// Nothing: no such kernels (Cortex-A72, x86 before AVX2).
    #[default]
    None,
    /// x86 with AVX2.
    Avx2,
    /// x86 with AVX-512.
    Avx512,
    /// Arm with dot products (Cortex-A76) or integer matrix products.
    DotProd,
}

impl Repack {
    /// The set of the current CPU.
    pub fn of_this_cpu() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx512bw") {
                return Self::Avx512;
            }
            if std::arch::is_x86_feature_detected!("avx2") {
                return Self::Avx2;
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("dotprod") {
            return Self::DotProd;
        }
        Self::None
    }

    /// Whether matrices of this type are repacked.
    pub fn takes(self, element: ElementType) -> bool {
        type E = ElementType;
        match self {
            Self::None => false,
            Self::Avx2 => matches!(element, E::Q4_0 | E::Q4_K | E::IQ4_NL | E::MXFP4),
            Self::Avx512 => element == E::Q2_K || Self::Avx2.takes(element),
            Self::DotProd => matches!(
                element,
                E::Q4_0 | E::Q4_K | E::Q5_K | E::Q6_K | E::IQ4_NL | E::MXFP4 | E::Q8_0 | E::Q1_0
            ),
        }
    }
}
