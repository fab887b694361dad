//! `hearthctl` as a script uses it, without a service.

mod bench;
mod documentation;
mod evaluate;
#[path = "../../../../tests/common/executables.rs"]
mod executables;
mod harness;
mod memory;
#[path = "../../../../tests/common/not_checked.rs"]
mod not_checked;
mod quantize;
mod simulate;
mod usage;

/// The visible commands.
const COMMANDS: [&str; 27] = [
    "advise",
    "imatrix",
    "quantize",
    "evaluate",
    "bench",
    "tune",
    "generate",
    "chat",
    "status",
    "top",
    "models",
    "fit",
    "import",
    "pull",
    "load",
    "unload",
    "remove",
    "cache",
    "jobs",
    "submit",
    "result",
    "cancel",
    "embed",
    "rerank",
    "prewarm",
    "count-tokens",
    "simulate",
];
