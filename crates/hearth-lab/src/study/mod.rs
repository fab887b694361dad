//! Sends one question and three in sequence, repeatedly, to servers on this computer, in
//! turn. docs/performance.md has the source of the protocol.

mod address;
mod plot;
mod proc;
mod report;
mod results;
mod sampler;
mod server;
mod settings;
mod stats;
mod wire;

use std::time::{SystemTime, UNIX_EPOCH};

pub use address::Address;
pub use report::Report;
pub use results::{Failure, METRICS, Measured, Metric, Run};
pub use server::Server;
pub use settings::{FORMS, Form, Reset, Settings};
pub use stats::Summary;
pub use wire::Api;

use crate::Progress;
use crate::error::{LabError, Result};
use proc::Proc;
use sampler::Sampler;
use settings::Question;

/// A server that fails this many times in a row is not measured any more.
const FAILURES_MAX: usize = 3;

/// All servers and their results.
pub struct Study {
    settings: Settings,
    servers: Vec<Measured>,
    proc: Proc,
    /// Number of the last conversation; starts at a multiple of the start time.
    conversations: u64,
}

impl Study {
    /// A study of these servers.
    ///
    /// # Errors
    /// `Request` if two servers have the same name.
    pub fn new(settings: Settings, servers: Vec<Server>) -> Result<Self> {
        for (n, server) in servers.iter().enumerate() {
            if servers[..n].iter().any(|other| other.name == server.name) {
                return Err(LabError::Request(format!(
                    "two servers are called {}: give each a name of its own (--name, --against NAME=…)",
                    server.name
                )));
            }
        }
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Ok(Self {
            settings,
            servers: servers.into_iter().map(Measured::new).collect(),
            proc: Proc::here(),
            conversations: since.as_secs() << 20,
        })
    }

    /// Measures all servers; failures are part of the results.
    pub async fn run(&mut self, progress: &dyn Progress) {
        progress.begin("warming up");
        for n in 0..self.servers.len() {
            self.warm_up(n).await;
        }
        let rounds = u64::from(self.settings.runs);
        let total = rounds * (FORMS.len() * self.servers.len()) as u64;
        let mut done = 0;
        for round in 0..self.settings.runs {
            for form in FORMS {
                for n in self.order(round) {
                    let name = &self.servers[n].server.name;
                    progress.steps(&format!("{}: {name}", form.name()), done, total);
                    self.measure(n, form, round).await;
                    done += 1;
                }
            }
        }
    }

    /// The servers and their results.
    pub fn servers(&self) -> &[Measured] {
        &self.servers
    }

    /// The settings of the study.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The results for JSON.
    pub fn report(&self) -> Report<'_> {
        Report::new(&self.settings, &self.servers)
    }

    /// The results as bar charts in SVG.
    ///
    /// # Errors
    /// `Plot`.
    pub fn plot(&self) -> Result<String> {
        plot::svg(&self.settings.to_string(), &self.servers)
            .map_err(|e| LabError::Plot(e.to_string()))
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
            measured.add_failure("warm-up", 0, e);
            measured.excluded = true;
            return;
        }
        // Not before: the processes that it needs may have been started just now.
        match measured.server.find_process(&self.proc).await {
            Ok(pid) => measured.pid = Some(pid),
            Err(why) => measured.add_note(format!("CPU and memory are not measured: {why}")),
        }
    }

    async fn measure(&mut self, n: usize, form: Form, round: u32) {
        if self.servers[n].excluded {
            return;
        }
        let run = self.one_run(n, form).await;
        let measured = &mut self.servers[n];
        match run {
            Ok(run) => measured.add(form, run),
            Err(e) => {
                measured.add_failure(form.name(), round + 1, e);
                measured.excluded = measured.failures_in_row >= FAILURES_MAX;
            }
        }
    }

    async fn one_run(&mut self, n: usize, form: Form) -> Result<Run, String> {
        if self.settings.reset == Reset::Unload {
            let measured = &self.servers[n];
            measured.server.unload(&measured.model).await?;
        }
        let sampler = Sampler::begin(self.servers[n].pid);
        let answers = self.questions(n, form).await;
        let used = sampler.end();
        Ok(Run::new(&answers?, &used))
    }

    async fn questions(&mut self, n: usize, form: Form) -> Result<Vec<server::Answer>, String> {
        let limit = self.settings.timeout;
        let mut answers = Vec::new();
        for text in form.questions() {
            self.conversations += 1;
            let question = Question::new(&self.settings, text, self.conversations);
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
}
