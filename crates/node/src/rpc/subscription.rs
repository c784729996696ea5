//! Push heads, logs and pending transactions over WebSocket.
//!
//! A subscription follows the chain by number: it is told that the head moved and reads what it has
//! not sent yet. A slow client therefore delays only itself, and one that stops reading is dropped.

use std::{sync::Arc, time::Duration};

use alloy_rpc_types_eth::{
    Filter,
    pubsub::{Params as Wanted, SubscriptionKind},
};
use jsonrpsee::{
    PendingSubscriptionSink, SubscriptionMessage, SubscriptionSink,
    types::{ErrorObjectOwned, Params, SubscriptionId},
};
use og_chain::{At, LogFilter, logs_of};
use serde::Serialize;

use super::{args::Args, backend::Backend, convert, error, filter};

type Answer<T> = Result<T, ErrorObjectOwned>;

/// How long a message may wait for a client that does not read.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How many blocks are read before their messages are sent.
const BLOCKS_PER_STEP: u64 = 64;

/// Gives subscriptions hexadecimal ids, as clients expect.
#[derive(Debug, Default)]
pub(super) struct HexIds {
    last: std::sync::atomic::AtomicU64,
}

impl jsonrpsee::core::traits::IdProvider for HexIds {
    fn next_id(&self) -> SubscriptionId<'static> {
        let id = self.last.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        format!("0x{id:x}").into()
    }
}

enum Feed {
    Heads,
    Logs(LogFilter),
    Pending {
        full: bool,
    },
    /// Never sends: there is no state to sync.
    Silent,
}

/// Serves one `eth_subscribe` until the client or the node leaves.
pub(super) async fn serve(
    params: Params<'static>,
    pending: PendingSubscriptionSink,
    node: Arc<Backend>,
) {
    let feed = match feed(&params) {
        Ok(feed) => feed,
        Err(error) => return pending.reject(error).await,
    };
    // Taken before the client learns the id: nothing that follows its answer is missed.
    let next_block = node.chain.head().number + 1;
    let seen = *node.mempool.arrivals().borrow();
    // An error means that the connection is gone.
    let Ok(sink) = pending.accept().await else { return };
    match feed {
        Feed::Heads => follow_heads(&node, &sink, next_block, None).await,
        Feed::Logs(filter) => follow_heads(&node, &sink, next_block, Some(filter)).await,
        Feed::Pending { full } => follow_pool(&node, &sink, seen, full).await,
        Feed::Silent => tokio::select! {
            () = sink.closed() => {}
            () = node.shutdown.cancelled() => {}
        },
    }
}

fn feed(params: &Params<'_>) -> Answer<Feed> {
    let mut args = Args::new(params);
    let name: String = args.next()?;
    let kind: SubscriptionKind = name.parse().map_err(|_| {
        error::method_not_found(format!("no {name:?} subscription in eth namespace"))
    })?;
    let wanted: Option<Wanted> = args.optional()?;
    match (kind, wanted) {
        (SubscriptionKind::NewHeads, None | Some(Wanted::None)) => Ok(Feed::Heads),
        (SubscriptionKind::Logs, None | Some(Wanted::None)) => {
            convert::log_filter(&Filter::default()).map(Feed::Logs)
        }
        (SubscriptionKind::Logs, Some(Wanted::Logs(filter))) => {
            convert::log_filter(&filter).map(Feed::Logs)
        }
        (SubscriptionKind::NewPendingTransactions, None | Some(Wanted::None)) => {
            Ok(Feed::Pending { full: false })
        }
        (SubscriptionKind::NewPendingTransactions, Some(Wanted::Bool(full))) => {
            Ok(Feed::Pending { full })
        }
        (SubscriptionKind::Syncing, None | Some(Wanted::None)) => Ok(Feed::Silent),
        (SubscriptionKind::TransactionReceipts, _) => {
            Err(error::method_not_found("no \"transactionReceipts\" subscription in eth namespace"))
        }
        _ => Err(error::invalid_params(format!("invalid parameters for {name} subscription"))),
    }
}

/// Sends each new head, or each matching log in it.
async fn follow_heads(
    node: &Arc<Backend>,
    sink: &SubscriptionSink,
    mut next_block: u64,
    filter: Option<LogFilter>,
) {
    let mut heads = node.heads.subscribe();
    loop {
        let head = *heads.borrow_and_update();
        while next_block <= head {
            let last = head.min(next_block + BLOCKS_PER_STEP - 1);
            let (reading, wanted) = (node.clone(), filter.clone());
            let read = tokio::task::spawn_blocking(move || {
                let mut messages = Vec::new();
                for number in next_block..=last {
                    messages.extend(block_messages(&reading, number, wanted.as_ref())?);
                }
                Answer::Ok(messages)
            });
            let Ok(Ok(messages)) = read.await else { return };
            if !send(node, sink, messages).await {
                return;
            }
            next_block = last + 1;
        }
        tokio::select! {
            changed = heads.changed() => if changed.is_err() { return },
            () = sink.closed() => return,
            () = node.shutdown.cancelled() => return,
        }
    }
}

fn block_messages(
    node: &Backend,
    number: u64,
    filter: Option<&LogFilter>,
) -> Answer<Vec<SubscriptionMessage>> {
    let Some(block) = node.block(At::Number(number))? else { return Ok(Vec::new()) };
    match filter {
        None => Ok(vec![message(&convert::header(&block))?]),
        Some(filter) => {
            logs_of(&block, filter).into_iter().map(|log| message(&convert::log(log))).collect()
        }
    }
}

/// Sends each transaction that arrives in the pool.
async fn follow_pool(node: &Arc<Backend>, sink: &SubscriptionSink, mut seen: u64, full: bool) {
    let mut arrivals = node.mempool.arrivals();
    loop {
        arrivals.borrow_and_update();
        let (hashes, count) = node.mempool.arrived_since(seen);
        seen = count;
        let reading = node.clone();
        let read = tokio::task::spawn_blocking(move || match full {
            true => filter::transactions(&reading, &hashes)?.iter().map(message).collect(),
            false => hashes.iter().map(message).collect::<Answer<Vec<_>>>(),
        });
        let Ok(Ok(messages)) = read.await else { return };
        if !send(node, sink, messages).await {
            return;
        }
        tokio::select! {
            changed = arrivals.changed() => if changed.is_err() { return },
            () = sink.closed() => return,
            () = node.shutdown.cancelled() => return,
        }
    }
}

/// False when the client is gone or does not read.
async fn send(node: &Backend, sink: &SubscriptionSink, messages: Vec<SubscriptionMessage>) -> bool {
    for message in messages {
        let sent = tokio::select! {
            sent = sink.send_timeout(message, SEND_TIMEOUT) => sent.is_ok(),
            () = node.shutdown.cancelled() => false,
        };
        if !sent {
            return false;
        }
    }
    true
}

fn message(value: &impl Serialize) -> Answer<SubscriptionMessage> {
    serde_json::value::to_raw_value(value).map(SubscriptionMessage::from).map_err(error::internal)
}
