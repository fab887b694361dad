//! `quantize` and `imatrix`: a smaller file of the same model.

use std::path::Path;

use hearth_proto::units::Bytes;
use hearth_proto::{ImatrixJob, ImatrixResult, OfflineJob, QuantizeJob, QuantizeResult};
use serde_json::json;

use crate::args::{ImatrixArgs, QuantizeArgs};
use crate::error::Result;
use crate::evaluate::report::bits_per_weight;
use crate::input::text_file;
use crate::made::Made;
use crate::table::Table;
use crate::{engine, fit, output};

/// With fewer chunks of text, the statistics of rarely used columns are not reliable.
const CHUNKS_FEW: u64 = 20;
/// `hearthctl quantize`.
pub async fn run(as_json: bool, args: &QuantizeArgs) -> Result {
    let model = fit::find(&args.model)?;
    let made = Made::begin(&args.out)?;
    let job = OfflineJob::Quantize(QuantizeJob {
        model: model.clone(),
        out: made.path().to_owned(),
        file_type: args.file_type.number,
        imatrix: args.imatrix.clone(),
        threads: args.threads.unwrap_or_else(engine::threads),
        allow_requantize: args.allow_requantize,
    });
    let result: QuantizeResult = engine::run(&job, "reading the model", as_json).await?;
    made.finish()?;
    let bits = |bytes| bits_per_weight(bytes, result.parameters);
    if as_json {
        return output::json(&json!({
            "path": args.out,
            "type": args.file_type.name,
            "bytes_before": result.bytes_before,
            "bytes_after": result.bytes_after,
            "bits_per_weight_before": bits(result.bytes_before),
            "bits_per_weight_after": bits(result.bytes_after),
            "tensors": result.tensors,
            "fallbacks": result.fallbacks,
            "ran": result.ran,
        }));
    }
    let mut table = Table::new(&["FILE", "SIZE", "BITS/WEIGHT"], &[1, 2]);
    for (path, bytes) in [
        (&model, result.bytes_before),
        (&args.out, result.bytes_after),
    ] {
        table.row(vec![
            path.display().to_string(),
            Bytes(bytes).to_string(),
            format!("{:.2}", bits(bytes)),
        ]);
    }
    table.print()?;
    if result.fallbacks > 0 {
        output::note(&format!(
            "{} of {} tensors have rows that are no multiple of the type's blocks, and are \
             stored in a larger type",
            result.fallbacks, result.tensors
        ));
    }
    if !result.ran {
        output::note("it was read completely, but there is no memory to run it here");
    }
    Ok(())
}

/// `hearthctl imatrix`.
pub async fn imatrix(as_json: bool, args: &ImatrixArgs) -> Result {
    let model = fit::find(&args.model)?;
    let text = text_file(&args.text)?;
    let made = Made::begin(&args.output)?;
    let job = OfflineJob::Imatrix(ImatrixJob {
        model,
        text,
        name: file_name(&args.text),
        out: made.path().to_owned(),
        context: args.context,
        threads: args.threads.unwrap_or_else(engine::threads),
    });
    let result: ImatrixResult = engine::run(&job, "loading the model", as_json).await?;
    made.finish()?;
    if as_json {
        return output::json(&json!({
            "path": args.output,
            "matrices": result.matrices,
            "chunks": result.chunks,
            "chunk_tokens": result.chunk_tokens,
        }));
    }
    output::line(&format!(
        "{}: {} matrices, {} pieces of {} tokens",
        args.output.display(),
        result.matrices,
        result.chunks,
        result.chunk_tokens
    ))?;
    if result.chunks < CHUNKS_FEW {
        output::note("the text is short for this: some hundred pieces are usual");
    }
    Ok(())
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
