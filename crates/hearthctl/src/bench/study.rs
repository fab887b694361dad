//! `bench study`: sends one question and three in sequence, repeatedly, to servers on
//! this computer, in turn. docs/performance.md has the source of the protocol.

mod address;
mod plot;
mod proc;
mod result;
mod server;
mod show;
mod stats;
mod watch;
mod wire;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use address::Address;
pub use server::Server;
pub use wire::Api;

use hearth_proto::paths::SOCKET;

use crate::args::{BenchStudyArgs, Reset};
use crate::draw;
use crate::error::{CtlError, Result};
use crate::progress::Progress;
use proc::Proc;
use result::{Measured, Run};
use watch::Watch;

/// The questions; the form with one prompt uses the first only.
const QUESTIONS: [&str; 3] = [
    "What is the capital of Italy?",
    "What is the largest planet in the solar system?",
    "What is the chemical formula of water?",
];

/// Appended to each question if all answers are to have the same length.
const AT_LENGTH: &str = "Answer at length.";

/// Maximum tokens of an answer whose length is up to the model: a model may never stop.
const ANSWER_MAX: u32 = 256;

/// A server that fails this many times in a row is not measured any more.
const FAILURES_MAX: usize = 3;

/// How many questions a run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    One,
    Three,
}

const FORMS: [Form; 2] = [Form::One, Form::Three];

impl Form {
    fn name(self) -> &'static str {
        match self {
            Self::One => "one prompt",
            Self::Three => "three prompts",
        }
    }

    fn questions(self) -> &'static [&'static str] {
        match self {
            Self::One => &QUESTIONS[..1],
            Self::Three => &QUESTIONS,
        }
    }
}

/// One request.
#[derive(Clone, Debug)]
pub struct Question {
    /// A system prompt that no earlier conversation had.
    pub opening: Option<String>,
    /// The user's message.
    pub text: String,
    /// Maximum tokens of the answer.
    pub tokens: u32,
    /// Whether the answer must have exactly that many tokens.
    pub fixed_length: bool,
}

/// `hearthctl bench study`.
pub async fn run(as_json: bool, args: &BenchStudyArgs) -> Result {
    let mut study = Study::new(args)?;
    let mut progress = Progress::new("warming up", as_json);
    for n in 0..study.servers.len() {
        study.warm_up(n).await;
    }
    let rounds = u64::from(args.runs);
    let total = rounds * (FORMS.len() * study.servers.len()) as u64;
    let mut done = 0;
    for round in 0..args.runs {
        for form in FORMS {
            for n in study.order(round) {
                let name = &study.servers[n].server.name;
                progress.steps(&format!("{}: {name}", form.name()), done, total);
                study.measure(n, form, round).await;
                done += 1;
            }
        }
    }
    progress.clear();
    if let Some(path) = &args.plot {
        // Print the results measured so far in any case.
        if let Err(e) = draw::write(path, plot::svg(&show::title(args), &study.servers)) {
            show::print(as_json, args, &study.servers)?;
            return Err(e);
        }
    }
    show::print(as_json, args, &study.servers)?;
    show::verdict(&study.servers)
}

/// All servers and their results.
struct Study<'a> {
    args: &'a BenchStudyArgs,
    servers: Vec<Measured>,
    proc: Proc,
    /// Number of the last conversation; starts at a multiple of the start time.
    conversations: u64,
}

impl<'a> Study<'a> {
    fn new(args: &'a BenchStudyArgs) -> Result<Self> {
        let own = args.own_server();
        let servers: Vec<Server> = std::iter::once(own)
            .chain(args.against.iter().cloned())
            .collect();
        for (n, server) in servers.iter().enumerate() {
            if servers[..n].iter().any(|other| other.name == server.name) {
                return Err(CtlError::Usage(format!(
                    "two servers are called {}: give each a name of its own (--name, --against NAME=…)",
                    server.name
                )));
            }
        }
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Ok(Self {
            args,
            servers: servers.into_iter().map(Measured::new).collect(),
            proc: Proc::here(),
            conversations: since.as_secs() << 20,
        })
    }

    /// The server that is measured first changes from round to round.
    fn order(&self, round: u32) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.servers.len()).collect();
        let first = round as usize % order.len().max(1);
        order.rotate_left(first);
        order
    }

    /// Looks up the model and the process of a server and sends one question that is not
    /// counted.
    async fn warm_up(&mut self, n: usize) {
        let found = match self.servers[n].server.find_model().await {
            Ok(model) => {
                self.servers[n].model = model;
                self.questions(n, Form::One).await.map(|_| ())
            }
            Err(e) => Err(e),
        };
        let measured = &mut self.servers[n];
        if let Err(e) = found {
            measured.failed("warm-up", 0, e);
            measured.is_out = true;
            return;
        }
        // Not before: the processes that it needs may have been started just now.
        match measured.server.find_process(&self.proc).await {
            Ok(pid) => measured.pid = Some(pid),
            Err(why) => measured.note(format!("no CPU and memory: {why}")),
        }
    }

    async fn measure(&mut self, n: usize, form: Form, round: u32) {
        if self.servers[n].is_out {
            return;
        }
        let run = self.one_run(n, form).await;
        let measured = &mut self.servers[n];
        match run {
            Ok(run) => measured.take(form, run),
            Err(e) => {
                measured.failed(form.name(), round + 1, e);
                measured.is_out = measured.failures_in_row >= FAILURES_MAX;
            }
        }
    }

    async fn one_run(&mut self, n: usize, form: Form) -> Result<Run, String> {
        if self.args.reset == Reset::Unload {
            let measured = &self.servers[n];
            measured.server.unload(&measured.model).await?;
        }
        let watch = Watch::begin(self.servers[n].pid);
        let answers = self.questions(n, form).await;
        let used = watch.end();
        Ok(Run::new(&answers?, &used))
    }

    async fn questions(&mut self, n: usize, form: Form) -> Result<Vec<server::Answer>, String> {
        let limit = Duration::from_secs(u64::from(self.args.timeout));
        let mut answers = Vec::new();
        for text in form.questions() {
            let question = self.question(text);
            let measured = &self.servers[n];
            let answer = measured.server.answer(&measured.model, &question);
            let answer = tokio::time::timeout(limit, answer).await;
            answers.push(answer.map_err(|_| {
                format!(
                    "no complete answer within {} s (--timeout)",
                    limit.as_secs()
                )
            })??);
        }
        Ok(answers)
    }

    fn question(&mut self, text: &str) -> Question {
        self.conversations += 1;
        let fresh = self.args.reset != Reset::None;
        let fixed = self.args.tokens;
        Question {
            opening: fresh.then(|| opening(self.conversations)),
            text: match fixed {
                Some(_) => format!("{text} {AT_LENGTH}"),
                None => text.to_owned(),
            },
            tokens: fixed.unwrap_or(ANSWER_MAX),
            fixed_length: fixed.is_some(),
        }
    }
}

/// A system prompt that differs from all others from its first characters on, so that no
/// prompt cache matches. The multiplier is Knuth's (The Art of Computer Programming,
/// 6.4): it makes successive numbers differ in their leading digits.
fn opening(number: u64) -> String {
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    format!("{mixed:016x} is the number of this conversation.")
}

impl BenchStudyArgs {
    /// The server of `--endpoint` or `--unix`; Hearthd's socket if neither is given.
    fn own_server(&self) -> Server {
        let address = match (&self.endpoint, &self.unix) {
            (Some(address), _) => address.clone(),
            (_, Some(path)) => Address::Unix(path.clone()),
            _ => Address::Unix(SOCKET.into()),
        };
        let name = match &self.name {
            Some(name) => name.clone(),
            None if self.endpoint.is_some() => address.to_string(),
            None => "hearthd".to_owned(),
        };
        Server {
            name,
            address,
            api: self.api,
            model: self.model.clone(),
            pid: self.pid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_conversation_begins_like_another() {
        let mut openings: Vec<String> = (1000..2000).map(opening).collect();
        openings.sort();
        let alike = |pair: &[String]| {
            let both = pair[0].chars().zip(pair[1].chars());
            both.take_while(|(a, b)| a == b).count()
        };
        assert!(openings.windows(2).all(|pair| alike(pair) < 6));
        assert_eq!(openings[0].len(), openings[999].len());
    }
}
