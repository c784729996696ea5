//! What the consensus engine talks to: turns its calls into tasks of the [`Node`].

use std::sync::Arc;

use commonware_actor::Feedback;
use commonware_codec::Encode as _;
use commonware_consensus::simplex::Plan;
use commonware_consensus::simplex::types::{Activity, Context};
use commonware_consensus::types::Round;
use commonware_consensus::{Automaton, CertifiableAutomaton, Relay, Reporter, Viewable as _};
use commonware_cryptography::ed25519::PublicKey;
use commonware_cryptography::sha256;
use commonware_p2p::Recipients;
use commonware_utils::channel::{mpsc, oneshot};
use tracing::warn;

use crate::application::Digest;
use crate::engine::{Runtime, Scheme};
use crate::node::{Finalized, Node, Turn};
use commonware_runtime::{Spawner as _, Supervisor as _};

/// Consensus asks for at most one proposal and one verification at a time, and for the certification of views that are
/// not final: after a restart, of all that it keeps. A request above this is declined.
const REQUESTS_MAX: usize = 256;

enum Request {
    Propose(Turn, oneshot::Sender<sha256::Digest>),
    Verify(Turn, Digest, oneshot::Sender<bool>),
    Certify(u64, Digest, oneshot::Sender<bool>),
}

/// Handle of the engine to the [`Node`].
#[derive(Clone)]
pub(crate) struct Mailbox {
    node: Arc<Node>,
    requests: mpsc::Sender<Request>,
}

/// Starts the task that serves the engine's requests.
pub(crate) fn start(runtime: Runtime, node: Arc<Node>) -> Mailbox {
    let (requests, mut receiver) = mpsc::channel(REQUESTS_MAX);
    let mailbox = Mailbox { node: Arc::clone(&node), requests };
    runtime.spawn(move |runtime| async move {
        while let Some(request) = receiver.recv().await {
            let node = Arc::clone(&node);
            match request {
                Request::Propose(turn, response) => {
                    runtime
                        .child("propose")
                        .spawn(move |runtime| node.propose(runtime, turn, response));
                }
                Request::Verify(turn, digest, response) => {
                    runtime
                        .child("verify")
                        .spawn(move |runtime| node.verify(runtime, turn, digest, response));
                }
                Request::Certify(view, digest, response) => {
                    runtime
                        .child("certify")
                        .spawn(move |runtime| node.certify(runtime, view, digest, response));
                }
            }
        }
    });
    mailbox
}

impl Mailbox {
    fn turn(&self, context: &Context<sha256::Digest, PublicKey>) -> Turn {
        let (parent_view, parent) = context.parent;
        let leader = self.node.seats.iter().position(|seat| *seat == context.leader);
        Turn {
            view: context.round.view().get(),
            parent: parent.0,
            parent_view: parent_view.get(),
            // The elector names participants only, and those are our seats.
            leader: leader.unwrap_or_default(),
        }
    }
}

impl Automaton for Mailbox {
    type Context = Context<sha256::Digest, PublicKey>;
    type Digest = sha256::Digest;

    async fn propose(&mut self, context: Self::Context) -> oneshot::Receiver<sha256::Digest> {
        let (response, receiver) = oneshot::channel();
        let _ = self.requests.try_send(Request::Propose(self.turn(&context), response));
        receiver
    }

    async fn verify(
        &mut self,
        context: Self::Context,
        payload: sha256::Digest,
    ) -> oneshot::Receiver<bool> {
        let (response, receiver) = oneshot::channel();
        let _ = self.requests.try_send(Request::Verify(self.turn(&context), payload.0, response));
        receiver
    }
}

impl CertifiableAutomaton for Mailbox {
    async fn certify(&mut self, round: Round, payload: sha256::Digest) -> oneshot::Receiver<bool> {
        let (response, receiver) = oneshot::channel();
        let request = Request::Certify(round.view().get(), payload.0, response);
        let _ = self.requests.try_send(request);
        receiver
    }
}

impl Relay for Mailbox {
    type Digest = sha256::Digest;
    type Plan = Plan<PublicKey>;
    type PublicKey = PublicKey;

    fn broadcast(&mut self, payload: sha256::Digest, plan: Plan<PublicKey>) -> Feedback {
        let recipients = match plan {
            Plan::Prepare { .. } | Plan::Propose { .. } => Recipients::All,
            Plan::Forward { recipients, .. } => recipients,
        };
        self.node.push(payload.0, recipients);
        Feedback::Ok
    }
}

impl Reporter for Mailbox {
    type Activity = Activity<Scheme, sha256::Digest>;

    fn report(&mut self, activity: Self::Activity) -> Feedback {
        let view = activity.view().get();
        match activity {
            Activity::Finalization(finalization) => self.node.report(Finalized {
                view,
                digest: finalization.proposal.payload.0,
                certificate: finalization.encode().into(),
            }),
            Activity::ConflictingNotarize(_)
            | Activity::ConflictingFinalize(_)
            | Activity::NullifyFinalize(_) => warn!(view, "a validator voted twice"),
            _ => {}
        }
        Feedback::Ok
    }
}
