//! A D-Bus client, connected to the daemon peer to peer.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd as StdFd;
use std::os::unix::net::UnixStream;

use futures_util::StreamExt as _;
use hearth_proto::FailureKind;
use hearth_proto::bus::{NAME, PATH};
use hearthd::dbus;
use serde_json::Value;
use zbus::message::Message;
use zbus::{
    Connection, DBusError as _, Guid, MatchRule, MessageStream, OwnedFd, OwnedObjectPath, Variant,
    connection,
};

use crate::harness::{World, patient};

pub const JOB: &str = "org.hearthd.Inference1.Job";
pub const SESSION: &str = "org.hearthd.Inference1.Session";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// Options of a method by their names.
pub type Options<'a> = HashMap<&'a str, Variant<'a>>;

/// The error of a method.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its kind, if its name is one of the interface's.
    pub kind: Option<FailureKind>,
    /// Its text.
    pub message: String,
    /// Seconds after which the caller may try again.
    pub retry_after_s: Option<u32>,
}

/// A connection.
pub struct Bus {
    connection: Connection,
    _server: Connection,
}

impl World {
    /// Connects to the daemon.
    pub async fn bus(&self) -> Bus {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = connection::Builder::unix_stream(theirs).server(Guid::generate());
        let server = dbus::objects(server.p2p(), &self.daemon).unwrap();
        let client = connection::Builder::unix_stream(ours).p2p();
        let (server, client) = tokio::join!(server.build(), client.build());
        let (server, connection) = (server.unwrap(), client.unwrap());
        dbus::start(&server, &self.daemon).await.unwrap();
        Bus {
            connection,
            _server: server,
        }
    }
}

impl Bus {
    /// Calls a method of an object.
    pub async fn call<R>(
        &self,
        path: &str,
        interface: &str,
        method: &str,
        args: &(impl serde::Serialize + zbus::DynamicType),
    ) -> Result<R, Refusal>
    where
        R: for<'d> zbus::wire::DynamicDeserialize<'d>,
    {
        let message = self.raw(path, interface, method, args).await?;
        Ok(message.body().deserialize().unwrap())
    }

    async fn raw(
        &self,
        path: &str,
        interface: &str,
        method: &str,
        args: &(impl serde::Serialize + zbus::DynamicType),
    ) -> Result<Message, Refusal> {
        let to = None::<&str>;
        let call = self
            .connection
            .call_method(to, path, Some(interface), method, args);
        match call.await {
            Ok(message) => Ok(message),
            Err(zbus::Error::MethodError(name, _, reply)) => {
                let body = reply.body();
                let (message, retry_after_s) = match body.deserialize::<(String, u32)>() {
                    Ok((message, seconds)) => (message, Some(seconds)),
                    Err(_) => (body.deserialize::<(String,)>().unwrap().0, None),
                };
                Err(Refusal {
                    kind: kind_of(name.as_str()),
                    message,
                    retry_after_s,
                })
            }
            // The standard names.
            Err(zbus::Error::FDO(error)) => Err(Refusal {
                kind: kind_of(error.name().as_str()),
                message: error.description().unwrap_or_default().to_owned(),
                retry_after_s: None,
            }),
            Err(error) => panic!("{method}: {error}"),
        }
    }

    /// Calls a method of the manager.
    pub async fn manager<R>(
        &self,
        method: &str,
        args: &(impl serde::Serialize + zbus::DynamicType),
    ) -> Result<R, Refusal>
    where
        R: for<'d> zbus::wire::DynamicDeserialize<'d>,
    {
        self.call(PATH, NAME, method, args).await
    }

    /// The error with which the manager refuses a call.
    pub async fn refused(
        &self,
        method: &str,
        args: &(impl serde::Serialize + zbus::DynamicType),
    ) -> Refusal {
        self.refused_by(NAME, method, args).await
    }

    /// The error with which an interface of the main object refuses a call.
    pub async fn refused_by(
        &self,
        interface: &str,
        method: &str,
        args: &(impl serde::Serialize + zbus::DynamicType),
    ) -> Refusal {
        let refused = self.raw(PATH, interface, method, args).await;
        refused.expect_err(method)
    }

    pub async fn generate(&self, prompt: &str) -> Result<String, Refusal> {
        self.manager("Generate", &(prompt,)).await
    }

    /// Returns the path of the job.
    pub async fn submit(&self, request: &Value, options: &Options<'_>) -> Result<String, Refusal> {
        let args = (request.to_string(), options);
        let path: OwnedObjectPath = self.manager("Submit", &args).await?;
        Ok(path.as_str().to_owned())
    }

    /// Returns the pipe with the events of the job.
    pub async fn open_stream(
        &self,
        request: &Value,
        options: &Options<'_>,
    ) -> Result<File, Refusal> {
        let args = (request.to_string(), options);
        let opened: (OwnedObjectPath, OwnedFd) = self.manager("OpenStream", &args).await?;
        Ok(File::from(StdFd::from(opened.1)))
    }

    pub async fn cancel(&self, job: &str) {
        self.call::<()>(job, JOB, "Cancel", &()).await.unwrap();
    }

    /// Waits for the answer of a job.
    pub async fn result(&self, job: &str) -> Result<Value, Refusal> {
        let result: String = self.call(job, JOB, "GetResult", &()).await?;
        Ok(serde_json::from_str(&result).unwrap())
    }

    /// All properties of an object.
    pub async fn properties(
        &self,
        path: &str,
        interface: &str,
    ) -> HashMap<String, zbus::OwnedVariant> {
        let args = (interface,);
        self.call(path, PROPERTIES, "GetAll", &args).await.unwrap()
    }

    /// A numeric property of an object.
    pub async fn number(&self, path: &str, interface: &str, name: &str) -> u32 {
        self.properties(path, interface).await[name]
            .downcast_ref::<u32>()
            .unwrap()
    }

    /// A text property of an object.
    pub async fn text(&self, path: &str, interface: &str, name: &str) -> String {
        self.properties(path, interface).await[name]
            .downcast_ref::<String>()
            .unwrap()
    }

    /// Returns the path of the session.
    pub async fn open_session(&self, options: &Options<'_>) -> Result<String, Refusal> {
        let path: OwnedObjectPath = self.manager("OpenSession", &(options,)).await?;
        Ok(path.as_str().to_owned())
    }

    /// Returns the answer in a session.
    pub async fn say(
        &self,
        session: &str,
        text: &str,
        options: &Options<'_>,
    ) -> Result<String, Refusal> {
        self.call(session, SESSION, "Generate", &(text, options))
            .await
    }

    /// Subscribes to all signals of the service.
    pub async fn listen(&self) -> Signals {
        let rule = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .path_namespace(PATH)
            .build()
            .unwrap();
        let stream = MessageStream::for_match_rule(rule, &self.connection, None);
        Signals(stream.await.unwrap())
    }
}

/// The kind with this name of an error.
fn kind_of(name: &str) -> Option<FailureKind> {
    let mut kinds = FailureKind::ALL.into_iter();
    kinds.find(|kind| kind.names().bus == name)
}

/// Received signals.
pub struct Signals(MessageStream);

impl Signals {
    /// The next signal of this name.
    pub async fn next(&mut self, member: &str) -> Message {
        loop {
            let next = patient(member, self.0.next()).await;
            let message = next.unwrap().unwrap();
            let header = message.header();
            if header.member().is_some_and(|m| m.as_str() == member) {
                return message;
            }
        }
    }
}
