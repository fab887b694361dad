//! `generate` and `count-tokens`: one text in, one answer out.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd as StdFd;

use clap::Args;
use serde_json::json;
use zbus::OwnedFd;

use crate::answer::{Answer, OutputMode};
use crate::bus::{self, Options};
use crate::error::Result;
use crate::global::Global;
use crate::request::{self, PRIORITIES, QueueArgs, RequestArgs, Turn};
use crate::{input, output};

#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// The prompt; `-`, or no prompt with piped input, reads standard input.
    pub prompt: Option<String>,
    #[command(flatten)]
    pub request: RequestArgs,
    /// Scheduling priority of the request.
    #[arg(long, default_value = "interactive", value_parser = PRIORITIES)]
    pub priority: String,
    #[command(flatten)]
    pub queue: QueueArgs,
    /// Print the answer when it is complete instead of token by token.
    #[arg(long)]
    pub no_stream: bool,
    /// Print speed and token counts on standard error even if it is not a terminal.
    #[arg(long)]
    pub stats: bool,
}

/// `hearthctl generate`.
pub async fn run(global: &Global, args: &GenerateArgs) -> Result {
    let prompt = input::text(args.prompt.as_deref(), "prompt")?;
    let bus = bus::connect(global).await?;
    let request = request::chat(&[Turn::user(prompt)], &args.request);
    let options = request::options(&args.priority, &args.queue);
    let mut answer = Answer::new(match (args.no_stream, global.is_json()) {
        (true, _) => OutputMode::Nothing,
        (false, true) => OutputMode::Events,
        (false, false) => OutputMode::Text,
    });
    let received = answer.receive(&bus, &request, &options).await;
    answer.end_line()?;
    received?;
    if args.no_stream {
        print_complete(&answer, global.is_json())?;
    }
    let is_terminal =
        output::stdout_is_terminal() && output::stderr_is_terminal() && !global.is_json();
    if args.stats || is_terminal {
        output::note(&answer.stats());
    }
    Ok(())
}

/// `hearthctl count-tokens`.
pub async fn count(global: &Global, text: Option<&str>) -> Result {
    let text = input::text(text, "text")?;
    let bus = bus::connect(global).await?;
    let tokens = bus.service.count_tokens(&text, &Options::new()).await?;
    if global.is_json() {
        output::json(&json!({ "tokens": tokens }))
    } else {
        output::line(&tokens.to_string())
    }
}

/// `hearthctl embed`.
pub async fn embed(global: &Global, texts: &[String]) -> Result {
    let texts = match texts {
        [] => vec![input::text(None, "text")?],
        [one] => vec![input::text(Some(one), "text")?],
        many => many.to_vec(),
    };
    let bus = bus::connect(global).await?;
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let embedded = bus.service.embed_to_file(&texts, &Options::new()).await?;
    let vectors = vectors(embedded)?;
    if global.is_json() {
        return output::json(&json!({ "embeddings": vectors }));
    }
    vectors
        .iter()
        .try_for_each(|vector| output::line(&json!(vector).to_string()))
}

/// The vectors in a file of `EmbedToFile`.
fn vectors((file, dimensions): (OwnedFd, u32)) -> Result<Vec<Vec<f64>>> {
    let mut bytes = Vec::new();
    File::from(StdFd::from(file)).read_to_end(&mut bytes)?;
    let (numbers, _) = bytes.as_chunks::<4>();
    let numbers: Vec<f64> = numbers
        .iter()
        .map(|number| f64::from(f32::from_le_bytes(*number)))
        .collect();
    let vectors = numbers.chunks_exact(dimensions.max(1) as usize);
    Ok(vectors.map(<[f64]>::to_vec).collect())
}

fn print_complete(answer: &Answer, json: bool) -> Result {
    if json {
        output::json(&answer.to_json())
    } else {
        output::write(&answer.to_text())
    }
}
