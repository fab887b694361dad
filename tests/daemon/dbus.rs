//! D-Bus through `busctl` and `hearthctl`.

use std::fs;
use std::process::Command;

use hearth_proto::bus::{MODEL_STORE_INTERFACE, PATH, PROMPT_CACHE_INTERFACE, TUNING_INTERFACE};

use crate::client::{self, Bus, Options, SESSION};
use crate::harness::launch::group;
use crate::harness::{BUS_NAME, Daemon, Engine, Setup, error, ok, root, text, until};
use crate::not_checked::not_checked;

const JOB: &str = "org.hearthd.Inference1.Job";
const MODEL: &str = "org.hearthd.Inference1.Model";

fn chat(content: &str) -> String {
    serde_json::json!({"messages": [{"role": "user", "content": content}]}).to_string()
}

#[test]
fn the_demo_model_answers_over_every_method() {
    let daemon = Daemon::real();
    let answer = ok(&daemon.call("Generate", &["s", "What is the capital of Italy?"]));
    assert!(answer.contains("Rome"), "{answer}");
    assert!(daemon.property("State").contains("ready"));
    assert!(daemon.property("Model").contains("hearth-demo-q8_0"));
    assert!(!daemon.property("Cpu").contains("\"\""));

    let count = |text: &str| -> u32 {
        let said = ok(&daemon.call("CountTokens", &["sa{sv}", text, "0"]));
        said.trim().strip_prefix("u ").unwrap().parse().unwrap()
    };
    assert!(count("Rome.") > 0 && count("Rome. Rome. Rome.") > count("Rome."));
    let response = ok(&daemon.call("Chat", &["s", &chat("What is the capital of France?")]));
    assert!(
        response.contains("Paris") && response.contains("chat.completion"),
        "{response}"
    );
    let twice = r#"{"messages":[{"role":"user","content":"Hi"}],"n":2}"#;
    let twice = ok(&daemon.call("Chat", &["s", twice]));
    assert!(twice.contains("\\\"index\\\":1"), "{twice}");
    let models = ok(&daemon.call_at(PATH, MODEL_STORE_INTERFACE, "List", &[]));
    assert!(
        models.contains("hearth-demo-f16") && models.contains("\"Q8_0\""),
        "{models}"
    );

    ok(&daemon.call("UnloadModels", &["a{sv}", "0"]));
    assert!(daemon.property("State").contains("unloaded"));
    ok(&daemon.call("LoadModel", &["sa{sv}", "hearth-demo-f16", "0"]));
    assert!(daemon.property("Model").contains("hearth-demo-f16"));
    let answer = ok(&daemon.ctl(&["generate", "What is the capital of Japan?"]));
    assert!(answer.contains("Tokyo"), "{answer}");
}

/// The fake engine echoes the prompt.
#[test]
fn reasoning_and_calls_are_separated_in_streams_and_jobs() {
    let daemon = Daemon::fake("");
    let tools = daemon.dir.path().join("tools.json");
    let offered = r#"[{"type": "function", "function": {"name": "f",
        "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}}}}]"#;
    fs::write(&tools, offered).unwrap();
    let tools = tools.display().to_string();
    let call = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>";
    let prompt = format!("<think>\nHm.\n</think>\n\nYes.\n{call}");
    let expected = "Yes.\ntool call: f {\"x\":1}\n";
    for words in [
        &["generate"][..],
        &["generate", "--no-stream"],
        &["submit", "--wait"],
    ] {
        let args = [words, &["--tools", &tools, &prompt]].concat();
        assert_eq!(ok(&daemon.ctl(&args)), expected, "{words:?}");
    }
    let lines = ok(&daemon.ctl(&["--json", "generate", "--tools", &tools, &prompt]));
    let lines: Vec<serde_json::Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let text = |kind: &str| -> String {
        let of_kind = lines.iter().filter(|line| line["type"] == kind);
        of_kind.filter_map(|line| line["text"].as_str()).collect()
    };
    assert_eq!(
        (text("reasoning").as_str(), text("token").as_str()),
        ("Hm.", "Yes.")
    );
    let call = lines
        .iter()
        .find(|line| line["type"] == "tool_call")
        .unwrap();
    assert_eq!(
        (&call["name"], &call["arguments"]["x"]),
        (&"f".into(), &1.into())
    );
    assert_eq!(lines[lines.len() - 1]["reason"], "tool_calls");
}

#[test]
fn a_job_outlives_its_submitter_unless_cancel_when_gone_is_set() {
    let daemon = Daemon::fake("token-ms=20");
    // busctl disconnects as soon as it has the job's path.
    let submit = |option: &str| {
        let request = chat(&"long ".repeat(400));
        ok(&daemon.call(
            "Submit",
            &["sa{sv}", &request, "1", "cancel_when_gone", "b", option],
        ));
    };
    submit("true");
    submit("false");
    let jobs = || -> serde_json::Value {
        serde_json::from_str(&ok(&daemon.ctl(&["jobs", "--json"]))).unwrap()
    };
    until("only the second one goes on", || {
        let jobs = jobs();
        jobs[0]["state"] == "cancelled" && jobs[1]["state"] == "running"
    });
    let request = chat("x");
    let said = error(&daemon.call(
        "Submit",
        &["sa{sv}", &request, "1", "cancel_when_gone", "s", "yes"],
    ));
    assert!(said.contains("must be true or false"), "{said}");
}

#[test]
fn other_users_see_a_job_but_not_its_text() {
    if !nix::unistd::geteuid().is_root() {
        not_checked("a second user needs root");
        return;
    }
    let daemon = Daemon::fake("token-ms=5");
    ok(&daemon.call("Submit", &["sa{sv}", &chat("mine alone"), "0"]));
    let (uid, gid) = ("65534".to_owned(), group().to_string());
    let other = |args: &[&str]| {
        Command::new("setpriv")
            .args(["--reuid", &uid, "--regid", &gid, "--clear-groups", "busctl"])
            .arg(format!("--address={}", daemon.bus_address()))
            .args(args)
            .output()
            .unwrap()
    };
    let path = "/org/hearthd/Inference1/jobs/1";
    for (method, args) in [
        ("GetResult", &[][..]),
        ("Cancel", &[]),
        ("SetPriority", &["s", "background"]),
    ] {
        let said = error(&other(
            &[&["call", BUS_NAME, path, JOB, method], args].concat(),
        ));
        assert!(said.contains("Access denied"), "{method}: {said}");
    }
    let properties = [
        "call",
        BUS_NAME,
        path,
        "org.freedesktop.DBus.Properties",
        "GetAll",
        "s",
        JOB,
    ];
    let seen = ok(&other(&properties));
    assert!(
        seen.contains("State") && !seen.contains("mine alone"),
        "{seen}"
    );
    let import = error(&other(&[
        "call",
        BUS_NAME,
        PATH,
        MODEL_STORE_INTERFACE,
        "Remove",
        "sa{sv}",
        "fake",
        "0",
    ]));
    assert!(import.contains("Access denied"), "{import}");
    // The result is still available to its owner.
    assert!(ok(&daemon.call_at(path, JOB, "GetResult", &[])).contains("mine alone"));
}

/// `HEARTH_UPDATE=1` regenerates the files.
#[test]
fn the_documented_interface_equals_the_introspected_one() {
    let daemon = Daemon::start(Setup {
        engine: Engine::Fake(""),
        ..Setup::default()
    });
    let bus = Bus::connect(&daemon);
    let job = bus.submit(&client::chat("x"), &Options::new()).unwrap();
    let session = bus.open_session(&Options::new()).unwrap();
    for (path, interface) in [
        (PATH, BUS_NAME),
        (PATH, MODEL_STORE_INTERFACE),
        (PATH, TUNING_INTERFACE),
        (PATH, PROMPT_CACHE_INTERFACE),
        (&job, JOB),
        (&session, SESSION),
        ("/org/hearthd/Inference1/models/fake", MODEL),
    ] {
        let xml = Command::new("busctl")
            .arg(format!("--address={}", daemon.bus_address()))
            .args(["introspect", "--xml-interface", BUS_NAME, path])
            .output()
            .unwrap();
        let xml = text(&xml.stdout);
        let begin = xml
            .find(&format!("<interface name=\"{interface}\""))
            .unwrap();
        let end = begin + xml[begin..].find("</interface>").unwrap() + "</interface>".len();
        let live = format!("<node>\n  {}\n</node>\n", &xml[begin..end]);
        let file = root().join(format!("docs/api/{interface}.xml"));
        if std::env::var_os("HEARTH_UPDATE").is_some() {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, &live).unwrap();
        }
        let documented = fs::read_to_string(&file).unwrap();
        assert_eq!(
            documented,
            live,
            "{}: run the tests once with HEARTH_UPDATE=1",
            file.display()
        );
    }
}

#[test]
fn an_inhibitor_ends_with_its_caller() {
    let daemon = Daemon::start(Setup {
        config: "[engine]\nidle_unload_s = 1\n",
        ..Setup::default()
    });
    // busctl disconnects at once.
    ok(&daemon.call("KeepLoaded", &["sa{sv}", "test", "0"]));
    until("the model is unloaded", || {
        daemon.health()["service"]["state"] == "unloaded"
    });
}
