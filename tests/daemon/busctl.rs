//! Every method, called with `busctl`, which suffices for all of them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::process::Output;

use hearth_proto::bus::{
    MODEL_INTERFACE, MODEL_STORE_INTERFACE, PATH, PROMPT_CACHE_INTERFACE, TUNING_INTERFACE,
    model_path,
};

use crate::client::{Bus, Options, SESSION, chat};
use crate::harness::{BUS_NAME, Daemon, Engine, Setup, error, ok, root};
use crate::tune::set_temperature;

const JOB: &str = "org.hearthd.Inference1.Job";
/// busctl cannot pass or receive file descriptors.
const WITH_FILES: [&str; 5] = [
    "org.hearthd.Inference1.EmbedToFile",
    "org.hearthd.Inference1.ModelStore.Import",
    "org.hearthd.Inference1.ModelStore.StartImport",
    "org.hearthd.Inference1.OpenStream",
    "org.hearthd.Inference1.Session.OpenStream",
];

/// Calls methods and records their names.
struct Calls<'a> {
    daemon: &'a Daemon,
    made: RefCell<BTreeSet<String>>,
}

impl Calls<'_> {
    fn call(&self, path: &str, interface: &str, method: &str, args: &[&str]) -> Output {
        let name = format!("{interface}.{method}");
        assert!(self.made.borrow_mut().insert(name), "{method} twice");
        self.daemon.call_at(path, interface, method, args)
    }

    /// A method of the manager; returns the reply with its type.
    fn manager(&self, method: &str, args: &[&str]) -> String {
        self.interface(BUS_NAME, method, args)
    }

    /// A method of an interface of the main object.
    fn interface(&self, interface: &str, method: &str, args: &[&str]) -> String {
        ok(&self.call(PATH, interface, method, args))
            .trim()
            .to_owned()
    }
}

/// All methods of the documented interfaces.
fn documented() -> BTreeSet<String> {
    let mut methods = BTreeSet::new();
    let interfaces = [
        BUS_NAME,
        MODEL_STORE_INTERFACE,
        TUNING_INTERFACE,
        PROMPT_CACHE_INTERFACE,
        MODEL_INTERFACE,
        JOB,
        SESSION,
    ];
    for interface in interfaces {
        let file = root().join(format!("docs/api/{interface}.xml"));
        let xml = fs::read_to_string(file).unwrap();
        let names = xml.split("<method name=\"").skip(1);
        let names = names.filter_map(|rest| rest.split('"').next());
        methods.extend(names.map(|name| format!("{interface}.{name}")));
    }
    assert!(methods.len() > 20, "{methods:?}");
    methods
}

/// The methods of sessions.
fn call_sessions(calls: &Calls<'_>, rome: &str) {
    // A session ends with the connection that opened it, here busctl's.
    let gone = calls.manager("OpenSession", &["a{sv}", "1", "seed", "u", "5"]);
    assert!(
        gone.starts_with("o \"/org/hearthd/Inference1/sessions/"),
        "{gone}"
    );
    let owner = Bus::connect(calls.daemon);
    let session = owner.open_session(&Options::new()).unwrap();
    let in_session = |method: &str, args: &[&str]| ok(&calls.call(&session, SESSION, method, args));
    in_session("Append", &["s", "We talk about Italy."]);
    assert!(in_session("Generate", &["sa{sv}", rome, "0"]).starts_with("s "));
    assert!(in_session("Clone", &[]).starts_with("o "));
    let chatted = in_session("Chat", &["sa{sv}", rome, "0"]);
    assert!(chatted.contains("chat.completion"), "{chatted}");
    let result = ["ss", "call", "x"];
    let said = error(&calls.call(&session, SESSION, "AddToolResult", &result));
    assert!(said.contains("no call waits"), "{said}");
    in_session("Close", &[]);
}

/// Those that load.
fn call_models(calls: &Calls<'_>) {
    let model = model_path("hearth-demo-q8_0");
    let of_model =
        |method: &str, args: &[&str]| ok(&calls.call(&model, MODEL_INTERFACE, method, args));
    of_model("Load", &["a{sv}", "0"]);
    of_model("Unload", &["a{sv}", "0"]);
    let load = calls.manager("StartLoadModel", &["sa{sv}", "", "0"]);
    assert!(load.starts_with("o "), "{load}");
}

// Longer than a screen: the last line compares all methods that were called with the
// documented ones, so they are called in one test.
#[test]
fn busctl_reaches_every_method() {
    let daemon = Daemon::start(Setup {
        engine: Engine::Real,
        config: "[engine]\nthreads = 2\n[cache]\nmin_tokens = 8\n",
        ..Setup::default()
    });
    set_temperature(&daemon, 40);
    let calls = Calls {
        daemon: &daemon,
        made: RefCell::default(),
    };
    let rome = "What is the capital of Italy?";
    let request = chat(rome).to_string();

    let listed = calls.interface(MODEL_STORE_INTERFACE, "List", &[]);
    assert!(
        listed.starts_with("aa{sv} 2 ") && listed.contains("hearth-demo"),
        "{listed}"
    );
    assert_eq!(calls.manager("LoadModel", &["sa{sv}", "", "0"]), "");
    assert!(calls.manager("Generate", &["s", rome]).contains("Rome"));
    let schema = r#"{"type":"object","properties":{"n":{"type":"integer","maximum":9,"minimum":0}},"required":["n"],"additionalProperties":false}"#;
    let json = calls.manager("GenerateJson", &["ss", rome, schema]);
    // The model may place spaces and line ends anywhere.
    let tight: String = json.replace(r"\n", "").split_whitespace().collect();
    assert!(tight.starts_with(r#"s"{\"n\":"#), "{json}");
    assert!(calls.manager("Chat", &["s", &request]).contains("Rome"));
    assert!(
        calls
            .manager("Embed", &["asa{sv}", "2", "a", "b", "0"])
            .starts_with("aad 2 ")
    );
    let documents = ["sasa{sv}", rome, "1", "a", "0"];
    let said = error(&calls.call(PATH, BUS_NAME, "Rerank", &documents));
    assert!(said.contains("name a reranker"), "{said}");
    assert_eq!(calls.manager("CountTokens", &["sa{sv}", "", "0"]), "u 0");
    let system = "You are the voice of this house. Answer in one sentence, please.";
    assert_eq!(calls.manager("Prewarm", &["sa{sv}", system, "0"]), "");
    assert_eq!(
        calls.manager("KeepLoaded", &["sa{sv}", "a test", "0"]),
        "u 1"
    );
    // The inhibitor ended with busctl's connection.
    let said = error(&calls.call(PATH, BUS_NAME, "ReleaseKeepLoaded", &["u", "1"]));
    assert!(said.contains("no cookie 1"), "{said}");

    let job = calls.manager(
        "Submit",
        &["sa{sv}", &request, "1", "priority", "s", "background"],
    );
    let job = job.trim_start_matches("o ").trim_matches('"');
    let on_job = |method: &str, args: &[&str]| calls.call(job, JOB, method, args);
    assert!(ok(&on_job("GetResult", &[])).contains("Rome"));
    ok(&on_job("Cancel", &[]));
    let said = error(&on_job("SetPriority", &["s", "normal"]));
    assert!(said.contains("is done"), "{said}");

    call_sessions(&calls, rome);
    call_models(&calls);

    let board = calls.manager("GetBoard", &[]);
    assert!(
        board.starts_with("a{sv} ") && board.contains("temperature"),
        "{board}"
    );
    let tuning = calls.interface(TUNING_INTERFACE, "Measure", &["sa{sv}", "", "0"]);
    assert!(tuning.contains("\"decode\""), "{tuning}");
    let tuning = |method: &str| calls.interface(TUNING_INTERFACE, method, &[]);
    assert!(tuning("List").starts_with("aa{sv} 1 "));
    let started = calls.interface(TUNING_INTERFACE, "StartMeasure", &["sa{sv}", "", "0"]);
    let job = started.trim_start_matches("o ").trim_matches('"');
    ok(&daemon.call_at(job, JOB, "Cancel", &[]));
    let none = ["a{sv}", "0"];
    assert_eq!(calls.interface(TUNING_INTERFACE, "Forget", &none), "");
    assert_eq!(calls.manager("UnloadModels", &none), "");
    // The cached prompt is on disk by then.
    let prompts = |method: &str| calls.interface(PROMPT_CACHE_INTERFACE, method, &[]);
    let kept = prompts("List");
    assert!(
        kept.starts_with("aa{sv} ") && !kept.starts_with("aa{sv} 0"),
        "{kept}"
    );
    assert!(prompts("Verify").starts_with("aa{sv} "));
    let cleared = calls.interface(PROMPT_CACHE_INTERFACE, "Clear", &none);
    assert_ne!(cleared, "u 0");
    let said = error(&calls.call(
        PATH,
        MODEL_STORE_INTERFACE,
        "Remove",
        &["sa{sv}", "hearth-demo-q8_0", "0"],
    ));
    // A packaged model stays. busctl has its own text for this error.
    assert!(said.contains("Access denied"), "{said}");

    let mut made = calls.made.into_inner();
    made.extend(WITH_FILES.map(str::to_owned));
    assert_eq!(made, documented());
}
