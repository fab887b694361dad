//! `quantize` and `imatrix`: a smaller file of the same model.

use std::path::Path;

use hearth_lab::model;
use hearth_lab::offline::threads;
use hearth_lab::quantize::{self, Quantize};
use hearth_proto::ImatrixJob;
use hearth_proto::units::Bytes;
use serde_json::json;

use crate::args::{ImatrixArgs, QuantizeArgs};
use crate::error::Result;
use crate::made::Made;
use crate::progress::Progress;
use crate::table::Table;
use crate::{fit, output};

/// With fewer chunks of text, the statistics of rarely used columns are not reliable.
const CHUNKS_FEW: u64 = 20;

/// `hearthctl quantize`.
pub async fn run(as_json: bool, args: &QuantizeArgs) -> Result {
    let model = fit::find(&args.model)?;
    let made = Made::begin(&args.out)?;
    let progress = Progress::new("", as_json);
    let quantize = Quantize {
        model: model.clone(),
        out: made.path().to_owned(),
        file_type: args.file_type,
        imatrix: args.imatrix.clone(),
        threads: args.threads.unwrap_or_else(threads),
        allow_requantize: args.allow_requantize,
    };
    let result = quantize.run(&progress).await?;
    made.finish()?;
    drop(progress);
    if as_json {
        let mut document = json!({ "path": args.out });
        if let (Some(document), serde_json::Value::Object(result)) =
            (document.as_object_mut(), json!(result))
        {
            document.extend(result);
        }
        return output::json(&document);
    }
    let mut table = Table::new(&["FILE", "SIZE", "BITS/WEIGHT"], &[1, 2]);
    for (path, bytes, bits) in [
        (&model, result.bytes_before, result.bits_per_weight_before),
        (&args.out, result.bytes_after, result.bits_per_weight_after),
    ] {
        table.row(vec![
            path.display().to_string(),
            Bytes(bytes).to_string(),
            format!("{bits:.2}"),
        ]);
    }
    table.print()?;
    if result.fallbacks > 0 {
        output::note(&format!(
            "{} of {} tensors are stored in a larger type, because their rows are not a \
             multiple of the type's blocks",
            result.fallbacks, result.tensors
        ));
    }
    if !result.ran {
        output::note("the file was read completely, but not run: there is not enough memory");
    }
    Ok(())
}

/// `hearthctl imatrix`.
pub async fn imatrix(as_json: bool, args: &ImatrixArgs) -> Result {
    let model = fit::find(&args.model)?;
    let text = model::text(&args.text)?;
    let made = Made::begin(&args.output)?;
    let progress = Progress::new("", as_json);
    let job = ImatrixJob {
        model,
        text,
        name: file_name(&args.text),
        out: made.path().to_owned(),
        context: args.context,
        threads: args.threads.unwrap_or_else(threads),
    };
    let result = quantize::imatrix(job, &progress).await?;
    made.finish()?;
    drop(progress);
    if as_json {
        return output::json(&json!({
            "path": args.output,
            "matrices": result.matrices,
            "chunks": result.chunks,
            "chunk_tokens": result.chunk_tokens,
        }));
    }
    output::line(&format!(
        "{}: {} matrices, {} chunks of {} tokens",
        args.output.display(),
        result.matrices,
        result.chunks,
        result.chunk_tokens
    ))?;
    if result.chunks < CHUNKS_FEW {
        output::note("the text is short: some hundred chunks are usual");
    }
    Ok(())
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
