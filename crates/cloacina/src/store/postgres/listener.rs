//! The thread that receives the notifications of other runners and sends the notifications of this process's runners. One
//! session serves one store or the stores of many tenants. Each schema of a database has a separate channel (semantics
//! H4).
//!
//! NOTIFY holds a lock on the whole database until its transaction has committed. Notifications are therefore not sent
//! on the connections that write, and changes within a few milliseconds are combined into one notification.

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

/// Shortest pause between two attempts to reconnect.
const MIN_BACKOFF: Duration = Duration::from_millis(100);
/// Longest pause between two attempts to reconnect.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// A store that the listener serves.
#[derive(Clone)]
struct Member {
    schema: Option<String>,
    notifier: Arc<ChangeNotifier>,
}

/// The stores that the listener serves, by channel.
type Members = BTreeMap<String, Member>;

/// The listener thread. Dropping this value stops the thread.
pub(super) struct Listener {
    members: watch::Sender<Members>,
    outbox_changed: Arc<Notify>,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

/// A store's registration with a listener. Dropping this value ends the registration.
pub(super) struct Membership {
    listener: Arc<Listener>,
    channel: String,
    notifier: Arc<ChangeNotifier>,
}

impl Listener {
    /// Starts the thread. While any store is registered, the thread stays connected, and reconnects after errors. It
    /// uses the options of `session`.
    pub(super) fn start(session: Arc<Session>) -> Result<Arc<Self>, StoreError> {
        let failed = |error: std::io::Error| {
            StoreError::Failed(format!("cannot start the LISTEN thread: {error}").into())
        };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let (members, receiver) = watch::channel(Members::new());
        let (outbox_changed, stop) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (wakes, stops) = (Arc::clone(&outbox_changed), Arc::clone(&stop));
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
            outbox_changed,
            stop,
            thread: Some(thread),
        }))
    }

    /// Registers a store.
    pub(super) fn join(
        self: &Arc<Self>,
        session: &Session,
        notifier: &Arc<ChangeNotifier>,
    ) -> Membership {
        notifier.set_outbox_signal(Arc::clone(&self.outbox_changed));
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
            // The panic hook has already reported a panic of the thread.
            drop(thread.join());
        }
    }
}

async fn listen(session: &Session, mut members: watch::Receiver<Members>, outbox_changed: &Notify) {
    let mut backoff = MIN_BACKOFF;
    loop {
        // An error means that the listener is being dropped, and with it this future.
        drop(members.wait_for(|members| !members.is_empty()).await);
        let mut listening = ListenSession::default();
        match listening.serve(session, &mut members, outbox_changed).await {
            // No store is registered any more. The next store must not wait for a backoff.
            Ok(()) if listening.members.is_empty() => {
                backoff = MIN_BACKOFF;
                continue;
            }
            Ok(()) => {}
            Err(error) => {
                tracing::debug!(%error, "the LISTEN connection was lost; reconnecting");
            }
        }
        if !listening.members.is_empty() {
            backoff = MIN_BACKOFF;
        }
        for (notifier, _) in listening.members.values() {
            notifier.note_session_lost();
        }
        tokio::time::sleep(backoff.mul_f64(0.75 + 0.5 * fastrand::f64())).await;
        backoff = (backoff * 2).min(MAX_BACKOFF);
    }
}

/// The stores for which an open session listens, by channel.
#[derive(Default)]
struct ListenSession {
    members: BTreeMap<String, (Arc<ChangeNotifier>, PeerTable)>,
}

impl ListenSession {
    /// Receives and sends notifications until the connection ends or no store is registered any more.
    async fn serve(
        &mut self,
        session: &Session,
        members: &mut watch::Receiver<Members>,
        outbox_changed: &Notify,
    ) -> Result<(), StoreError> {
        let limit = session.options.connect_timeout;
        let lost =
            |error: tokio_postgres::Error| super::error::connecting(&error, &session.location);
        let opening = async {
            let (client, notifications) = session.listen().await?;
            // A notification need not survive a power failure.
            let setting = "SET synchronous_commit = off";
            client.batch_execute(setting).await.map_err(lost)?;
            Ok((client, notifications))
        };
        let (client, mut notifications) = tokio::time::timeout(limit, opening)
            .await
            .unwrap_or_else(|_| {
                Err(StoreError::Unavailable(
                    format!(
                        "the database {} did not answer within {limit:?}",
                        session.location
                    )
                    .into(),
                ))
            })?;
        members.mark_changed();
        loop {
            if members.has_changed().unwrap_or(false) {
                let present = members.borrow_and_update().clone();
                self.update_channels(&client, &present)
                    .await
                    .map_err(lost)?;
            }
            if self.members.is_empty() {
                return Ok(());
            }
            let (mut next_notification, mut next_check) = (None, None);
            for (notifier, peers) in self.members.values_mut() {
                peers.hold(&client, notifier).await.map_err(lost)?;
                next_notification = earlier(next_notification, notifier.next_notification());
                next_check = earlier(next_check, peers.next_check(notifier));
            }
            tokio::select! {
                notification = notifications.recv() => match notification {
                    Some(notification) => self.receive(&notification),
                    None => return Ok(()),
                },
                _ = members.changed() => members.mark_changed(),
                () = outbox_changed.notified(), if next_notification.is_none() => {}
                () = sleep_until(next_notification) => self.send_due(&client).await.map_err(lost)?,
                () = sleep_until(next_check) => self.check_peers(&client).await.map_err(lost)?,
            }
        }
    }

    /// Starts listening for new stores, and stops listening for stores that are no longer registered.
    async fn update_channels(
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
            notifier.note_session_opened();
            let listening_for = (Arc::clone(notifier), peers);
            self.members.insert(channel.clone(), listening_for);
        }
        Ok(())
    }

    fn receive(&self, notification: &Notification) {
        if let Some((notifier, _)) = self.members.get(notification.channel()) {
            notifier.receive(notification.payload());
        }
    }

    /// Sends the notifications that are due.
    async fn send_due(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        let (mut calls, mut outgoing) = (Vec::new(), Vec::new());
        for (channel, (notifier, _)) in &self.members {
            if is_due(notifier.next_notification()) {
                let payloads = notifier.take_notifications();
                // The payloads consist of fixed words and ids, contain no quotes, and need no escaping.
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

    /// Checks the advisory locks of peers if a check is due.
    async fn check_peers(&mut self, client: &Client) -> Result<(), tokio_postgres::Error> {
        for (notifier, peers) in self.members.values_mut() {
            if is_due(peers.next_check(notifier)) {
                peers.check_locks(client, notifier).await?;
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

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}
