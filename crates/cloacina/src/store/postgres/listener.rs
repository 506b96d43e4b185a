//! The thread with the session that listens for other runners' notifications and sends this process's own, for one store or
//! for those of many tenants: channels are a database's, and each schema has its own (semantics H4).
//!
//! NOTIFY takes a lock over the whole database until its transaction has committed, so it stays off the connections that
//! write, and what happens within a few milliseconds is told once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::sync::{Notify, watch};
use tokio_postgres::{Client, Notification};

use super::change_notifier::ChangeNotifier;
use super::peer_table::PeerTable;
use super::session::Session;
use crate::store::StoreError;

/// The first and the longest pause between attempts to connect again.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(5);

/// A store that listens.
#[derive(Clone)]
struct Member {
    schema: Option<String>,
    notifier: Arc<ChangeNotifier>,
}

/// Stores that listen, by their channels.
type Members = BTreeMap<String, Member>;

/// The thread of the listener; it ends with this value.
pub(super) struct Listener {
    members: watch::Sender<Members>,
    posted: Arc<Notify>,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

/// The place of a store in a listener; it ends with this value.
pub(super) struct Membership {
    listener: Arc<Listener>,
    channel: String,
    notifier: Arc<ChangeNotifier>,
}

impl Listener {
    /// Starts the thread. It connects with the session's options as long as a store listens, and retries for as long as it
    /// lives.
    pub(super) fn start(session: Arc<Session>) -> Result<Arc<Self>, StoreError> {
        let failed = |error: std::io::Error| {
            StoreError::Failed(format!("cannot start the LISTEN thread: {error}"))
        };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let (members, receiver) = watch::channel(Members::new());
        let (posted, stop) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (wakes, stops) = (Arc::clone(&posted), Arc::clone(&stop));
        let run = move || {
            runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = stops.notified() => {}
                    () = listen(&session, receiver, &wakes) => {}
                }
            });
        };
        let thread = std::thread::Builder::new()
            .name("cloacina-listen".to_owned())
            .spawn(run)
            .map_err(failed)?;
        Ok(Arc::new(Self {
            members,
            posted,
            stop,
            thread: Some(thread),
        }))
    }

    /// Listens for a store.
    pub(super) fn join(
        self: &Arc<Self>,
        session: &Session,
        notifier: &Arc<ChangeNotifier>,
    ) -> Membership {
        notifier.post_to(Arc::clone(&self.posted));
        let channel = session.channel();
        let member = Member {
            schema: session.options.schema.clone(),
            notifier: Arc::clone(notifier),
        };
        self.members.send_modify(|members| {
            members.insert(channel.clone(), member);
        });
        Membership {
            listener: Arc::clone(self),
            channel,
            notifier: Arc::clone(notifier),
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.listener.members.send_if_modified(|members| {
            let is_ours = |member: &Member| Arc::ptr_eq(&member.notifier, &self.notifier);
            let leaves = members.get(&self.channel).is_some_and(is_ours);
            if leaves {
                members.remove(&self.channel);
            }
            leaves
        });
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            // A panic in there has been reported by the hook; it has nothing to say here.
            drop(thread.join());
        }
    }
}

async fn listen(session: &Session, mut members: watch::Receiver<Members>, posted: &Notify) {
    let mut backoff = FIRST_BACKOFF;
    loop {
        // An error means that the listener is dropped, and this future with it.
        drop(members.wait_for(|members| !members.is_empty()).await);
        let mut line = Line::default();
        match line.serve(session, &mut members, posted).await {
            // No store listens any more: the next one is not to wait.
            Ok(()) if line.members.is_empty() => {
                backoff = FIRST_BACKOFF;
                continue;
            }
            Ok(()) => {}
            Err(error) => {
                tracing::debug!(%error, "the listener lost its connection and tries again");
            }
        }
        if !line.members.is_empty() {
            backoff = FIRST_BACKOFF;
        }
        for (notifier, _) in line.members.values() {
            notifier.lose_link();
        }
        tokio::time::sleep(backoff.mul_f64(0.75 + 0.5 * fastrand::f64())).await;
        backoff = (backoff * 2).min(LAST_BACKOFF);
    }
}

/// A connection that listens, and the stores for which it does.
#[derive(Default)]
struct Line {
    members: BTreeMap<String, (Arc<ChangeNotifier>, PeerTable)>,
}

impl Line {
    /// Listens and notifies until the connection ends or no store listens any more.
    async fn serve(
        &mut self,
        session: &Session,
        members: &mut watch::Receiver<Members>,
        posted: &Notify,
    ) -> Result<(), StoreError> {
        let limit = session.options.connect_timeout;
        let lost =
            |error: tokio_postgres::Error| super::error::connecting(&error, &session.location);
        let opening = async {
            let (client, notifications) = session.listen().await?;
            // A notification need not survive a power loss.
            let setting = "SET synchronous_commit = off";
            client.batch_execute(setting).await.map_err(lost)?;
            Ok((client, notifications))
        };
        let (client, mut notifications) = tokio::time::timeout(limit, opening)
            .await
            .unwrap_or_else(|_| {
                Err(StoreError::Unavailable(format!(
                    "the database {} did not answer",
                    session.location
                )))
            })?;
        members.mark_changed();
        loop {
            if members.has_changed().unwrap_or(false) {
                let present = members.borrow_and_update().clone();
                self.follow(&client, &present).await.map_err(lost)?;
            }
            if self.members.is_empty() {
                return Ok(());
            }
            let (mut next_notification, mut next_look) = (None, None);
            for (notifier, peers) in self.members.values_mut() {
                peers.hold(&client, notifier).await.map_err(lost)?;
                next_notification = earlier(next_notification, notifier.next_notification());
                next_look = earlier(next_look, peers.next_look(notifier));
            }
            tokio::select! {
                notification = notifications.recv() => match notification {
                    Some(notification) => self.hear(&notification),
                    None => return Ok(()),
                },
                _ = members.changed() => members.mark_changed(),
                () = posted.notified(), if next_notification.is_none() => {}
                () = until(next_notification) => self.notify(&client).await.map_err(lost)?,
                () = until(next_look) => self.look(&client).await.map_err(lost)?,
            }
        }
    }

    /// Listens for the stores that came, and not for those that went.
    async fn follow(
        &mut self,
        client: &Client,
        present: &Members,
    ) -> Result<(), tokio_postgres::Error> {
        let mut gone = Vec::new();
        self.members.retain(|channel, (notifier, _)| {
            let stays = (present.get(channel))
                .is_some_and(|member| Arc::ptr_eq(&member.notifier, notifier));
            if !stays {
                gone.push(format!("UNLISTEN \"{channel}\""));
            }
            stays
        });
        client.batch_execute(&gone.join("; ")).await?;
        for (channel, member) in present {
            if self.members.contains_key(channel) {
                continue;
            }
            let notifier = &member.notifier;
            let listen = format!("LISTEN \"{channel}\"");
            client.batch_execute(&listen).await?;
            let mut peers = PeerTable::new(member.schema.as_deref());
            peers.hold(client, notifier).await?;
            notifier.open_link();
            let joined = (Arc::clone(notifier), peers);
            self.members.insert(channel.clone(), joined);
        }
        Ok(())
    }

    fn hear(&self, notification: &Notification) {
        if let Some((notifier, _)) = self.members.get(notification.channel()) {
            notifier.hear(notification.payload());
        }
    }

    /// Sends the notifications that are due.
    async fn notify(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        let (mut calls, mut outgoing) = (Vec::new(), Vec::new());
        for (channel, (notifier, _)) in &self.members {
            if is_due(notifier.next_notification()) {
                let payloads = notifier.take_notifications();
                // The payloads are ids of ours: no quote is in them.
                let call = |payload| format!("pg_notify('{channel}', '{payload}')");
                calls.extend(payloads.iter().map(call));
                outgoing.push((notifier, payloads));
            }
        }
        let sent = client
            .batch_execute(&format!("SELECT {}", calls.join(", ")))
            .await;
        for (notifier, payloads) in outgoing {
            notifier.note_sent(if sent.is_ok() {
                BTreeSet::new()
            } else {
                payloads
            });
        }
        sent
    }

    /// Looks at the locks whose time has come.
    async fn look(&mut self, client: &Client) -> Result<(), tokio_postgres::Error> {
        for (notifier, peers) in self.members.values_mut() {
            if is_due(peers.next_look(notifier)) {
                peers.look(client, notifier).await?;
            }
        }
        Ok(())
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

fn is_due(at: Option<Instant>) -> bool {
    at.is_some_and(|at| at <= Instant::now())
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}
