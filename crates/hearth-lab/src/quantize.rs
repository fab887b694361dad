//! Smaller files of a model, and the importance matrices that make them better.

use std::path::PathBuf;

use hearth_gguf::FileType;
use hearth_proto::{ImatrixJob, ImatrixResult, OfflineJob, QuantizeJob, QuantizeResult};
use serde::Serialize;

use crate::error::Result;
use crate::model::bits_per_weight;
use crate::{Progress, offline};

/// A quantization.
#[derive(Clone, Debug)]
pub struct Quantize {
    /// The file to read.
    pub model: PathBuf,
    /// The file to write; an existing one is overwritten.
    pub out: PathBuf,
    /// Type of the weights.
    pub file_type: &'static FileType,
    /// Importance matrix.
    pub imatrix: Option<PathBuf>,
    /// Compute threads.
    pub threads: u32,
    /// Whether the source may be quantized already.
    pub allow_requantize: bool,
}

/// What a quantization did.
#[derive(Clone, Debug, Serialize)]
pub struct Quantized {
    /// The type's name.
    #[serde(rename = "type")]
    pub file_type: &'static str,
    /// Sizes of the files.
    pub bytes_before: u64,
    pub bytes_after: u64,
    /// Bits of each file per weight.
    pub bits_per_weight_before: f64,
    pub bits_per_weight_after: f64,
    /// Tensors of the model.
    pub tensors: u64,
    /// Tensors that are stored in a larger type.
    pub fallbacks: u64,
    /// Whether the new file was also run.
    pub ran: bool,
}

impl Quantize {
    /// Writes the file.
    ///
    /// # Errors
    /// Those of [`offline::run`].
    pub async fn run(self, progress: &dyn Progress) -> Result<Quantized> {
        let job = OfflineJob::Quantize(QuantizeJob {
            model: self.model,
            out: self.out,
            file_type: self.file_type.number,
            imatrix: self.imatrix,
            threads: self.threads,
            allow_requantize: self.allow_requantize,
        });
        let result: QuantizeResult = offline::run(&job, "reading the model", progress).await?;
        let bits = |bytes| bits_per_weight(bytes, result.parameters);
        Ok(Quantized {
            file_type: self.file_type.name,
            bytes_before: result.bytes_before,
            bytes_after: result.bytes_after,
            bits_per_weight_before: bits(result.bytes_before),
            bits_per_weight_after: bits(result.bytes_after),
            tensors: result.tensors,
            fallbacks: result.fallbacks,
            ran: result.ran,
        })
    }
}

/// Computes an importance matrix.
///
/// # Errors
/// Those of [`offline::run`].
pub async fn imatrix(job: ImatrixJob, progress: &dyn Progress) -> Result<ImatrixResult> {
    offline::run(&OfflineJob::Imatrix(job), "loading the model", progress).await
}
