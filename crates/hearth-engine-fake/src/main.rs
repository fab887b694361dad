//! The engine process without a model; its argument is a script of faults.

use std::env;
use std::process::ExitCode;

use hearth_engine::{exit_code, run, try_template};
use hearth_engine_fake::fake::{FakeLoader, Script};

fn main() -> ExitCode {
    hearth_logging::init("hearth-engine");
    let script = match env::args().nth(1).unwrap_or_default().as_str() {
        // The engine calls itself with this to try a chat template.
        "try-template" => return try_template(),
        script => script.parse::<Script>(),
    };
    match script {
        Ok(script) => exit_code(run(|| Ok(FakeLoader { script }))),
        Err(error) => {
            log::error!("{error}");
            ExitCode::from(2)
        }
    }
}
