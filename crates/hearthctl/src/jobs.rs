//! `submit`, `jobs`, `result` and `cancel`: requests that continue after their sender
//! has disconnected.

use std::time::Duration;

use clap::Args;
use hearth_proto::bus::JOBS;
use nix::unistd::{Uid, User};
use serde_json::{Value, json};

use crate::bus::{self, Bus, Dict};
use crate::error::{CtlError, Result};
use crate::formatter::Formatter;
use crate::global::Global;
use crate::progress::Progress;
use crate::request::{self, PRIORITIES, QueueArgs, RequestArgs, Turn};
use crate::table::Table;
use crate::value::{dict_to_json, float, number, text};
use crate::{input, output};

/// How often to poll the progress of a job while it is shown.
const JOB_POLL: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub struct SubmitArgs {
    /// The prompt; `-`, or no prompt with piped input, reads standard input.
    pub prompt: Option<String>,
    #[command(flatten)]
    pub request: RequestArgs,
    /// Scheduling priority of the job.
    #[arg(long, default_value = "normal", value_parser = PRIORITIES)]
    pub priority: String,
    #[command(flatten)]
    pub queue: QueueArgs,
    /// Wait for the answer and print it.
    #[arg(long)]
    pub wait: bool,
}

/// `hearthctl submit`.
pub async fn submit(global: &Global, args: &SubmitArgs) -> Result {
    let prompt = input::text(args.prompt.as_deref(), "prompt")?;
    let bus = bus::connect(global).await?;
    let request = request::chat(&[Turn::user(prompt)], &args.request);
    let options = request::options(&args.priority, &args.queue);
    let path = bus.service.submit(&request, &options).await?;
    let id = path.as_str().strip_prefix(JOBS).unwrap_or(path.as_str());
    if args.wait {
        if output::stderr_is_terminal() && !global.is_json() {
            output::note(&format!(
                "job {id} continues after an interrupt: hearthctl result {id}"
            ));
        }
        return result(&bus, global.is_json(), id).await;
    }
    if global.is_json() {
        output::json(&json!({ "id": id, "job": path.as_str() }))
    } else {
        output::line(id)
    }
}

/// `hearthctl result`.
pub async fn result(bus: &Bus, json: bool, id: &str) -> Result {
    let job = bus.job(id).await?;
    let progress = Progress::new(&format!("job {id}"), json);
    let response = tokio::select! {
        response = job.get_result() => response.map_err(|e| not_found(e.into(), id))?,
        never = watch_job(bus, id, &progress) => never,
    };
    drop(progress);
    let response: Value = serde_json::from_str(&response)
        .map_err(|e| CtlError::Unexpected(format!("the result is not JSON: {e}")))?;
    if json {
        return output::json(&response);
    }
    output::write(&readable(
        &response["choices"][0]["message"],
        output::stdout_is_terminal(),
    ))
}

/// A message of the model as text.
fn readable(message: &Value, is_terminal: bool) -> String {
    let mut formatter = Formatter::new(is_terminal);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut shown = formatter.reasoning(&text(&message["reasoning_content"]));
    shown += &formatter.content(&text(&message["content"]));
    for call in message["tool_calls"].as_array().into_iter().flatten() {
        let call = &call["function"];
        shown += &formatter.call(&text(&call["name"]), &text(&call["arguments"]));
    }
    shown + &formatter.end()
}

/// `hearthctl cancel`.
pub async fn cancel(bus: &Bus, json: bool, id: &str) -> Result {
    let before = bus.job_properties(id).await;
    let before = before.map_err(|e| not_found(e.into(), id))?;
    let state = text(&before, "State");
    let ended = matches!(state, "done" | "failed" | "cancelled");
    // Called in any case: the service decides whether the caller may.
    let job = bus.job(id).await?;
    job.cancel().await.map_err(|e| not_found(e.into(), id))?;
    if json {
        return output::json(&json!({ "id": id, "cancelled": !ended }));
    }
    output::note(&if ended {
        format!("job {id} had already ended: {state}")
    } else {
        format!("cancelled job {id}")
    });
    Ok(())
}

/// `hearthctl jobs`.
pub async fn list(bus: &Bus, json: bool) -> Result {
    let jobs = bus.jobs().await?;
    if json {
        let with_id = |(id, properties): &(String, Dict)| {
            let mut job = dict_to_json(properties);
            job["id"] = id.as_str().into();
            job
        };
        return output::json(&jobs.iter().map(with_id).collect::<Value>());
    }
    let mut table = Table::new(
        &[
            "ID",
            "STATE",
            "OPERATION",
            "PRIORITY",
            "USER",
            "TOKENS",
            "DONE",
            "POSITION",
        ],
        &[0, 5, 6, 7],
    );
    for (id, job) in jobs {
        // What a job does not have stays blank.
        let shown = |key: &str, show: fn(&Dict, &str) -> String| {
            if job.contains_key(key) {
                show(&job, key)
            } else {
                String::new()
            }
        };
        table.row(vec![
            id,
            text(&job, "State").to_owned(),
            text(&job, "Operation").to_owned(),
            text(&job, "Priority").to_owned(),
            user(number(&job, "Uid")),
            shown("TokensGenerated", |job, key| number(job, key).to_string()),
            shown("Progress", |job, key| {
                format!("{:.0} %", float(job, key) * 100.0)
            }),
            shown("QueuePosition", |job, key| {
                (number(job, key) + 1).to_string()
            }),
        ]);
    }
    if table.is_empty() {
        output::note("no jobs");
        return Ok(());
    }
    table.print()
}

/// A job that does not exist has no object to call.
fn not_found(error: CtlError, id: &str) -> CtlError {
    match error {
        // The service has answered, so it is the object that lacks the interface.
        CtlError::UnknownObject(_) | CtlError::Unexpected(_) => CtlError::UnknownObject(no_job(id)),
        other => other,
    }
}

fn no_job(id: &str) -> String {
    format!("no job {id}: see `hearthctl jobs`; finished jobs are deleted after a while")
}

/// Shows the progress of the job.
async fn watch_job<T>(bus: &Bus, id: &str, progress: &Progress) -> T {
    while progress.is_shown() {
        // For display only: errors are reported by the result itself.
        if let Ok(job) = bus.job_properties(id).await {
            progress.say(&match text(&job, "State") {
                "queued" => format!(
                    "job {id}: {} ahead in the queue",
                    number(&job, "QueuePosition")
                ),
                "running" => format!("job {id}: {} tokens", number(&job, "TokensGenerated")),
                state => format!("job {id}: {state}"),
            });
        }
        tokio::time::sleep(JOB_POLL).await;
    }
    std::future::pending().await
}

/// The name of a user, or the number where there is none.
fn user(uid: u64) -> String {
    u32::try_from(uid)
        .ok()
        .and_then(|uid| User::from_uid(Uid::from_raw(uid)).ok().flatten())
        .map_or_else(|| uid.to_string(), |user| user.name)
}

/// Accepts `7` as well as the job's object path.
pub fn job_id(text: &str) -> Result<String, String> {
    let id = text.strip_prefix(JOBS).unwrap_or(text);
    // The characters that an element of an object path may have.
    if !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        Ok(id.to_owned())
    } else {
        Err("a job is the number or path that `hearthctl submit` printed".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_readable() {
        for (message, expected) in [
            (json!({"content": "Rome"}), "Rome\n"),
            (json!({"content": ""}), ""),
            (
                json!({"content": "Yes.", "reasoning_content": "Hm."}),
                "Yes.\n",
            ),
            (
                json!({"content": null, "tool_calls": [
                    {"id": "1", "function": {"name": "f", "arguments": "{\"x\":1}"}}]}),
                "tool call: f {\"x\":1}\n",
            ),
        ] {
            assert_eq!(readable(&message, false), expected, "{message}");
        }
    }

    #[test]
    fn a_job_is_a_number_or_a_path() {
        assert_eq!(job_id("7").as_deref(), Ok("7"));
        assert_eq!(job_id("/org/hearthd/Inference1/jobs/7").as_deref(), Ok("7"));
        for wrong in ["", "../7", "/org/hearthd/Inference1/jobs/", "7/x", "é"] {
            assert!(job_id(wrong).is_err(), "{wrong}");
        }
    }
}
