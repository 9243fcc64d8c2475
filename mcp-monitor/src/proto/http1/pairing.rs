//! Which response answers which request.
//!
//! HTTP/1 pairs by order alone. Lost bytes can hide a request or a response, and a hole
//! in one direction can let the other run ahead, so the place of each head in the capture
//! decides where order no longer does. What stays ambiguous stays unpaired.

use std::collections::VecDeque;

use crate::proto::http::ExchangeId;

/// What the framing of a response needs to know of its request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Method {
    Head,
    Connect,
    Other,
}

/// A request whose response has not begun.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    exchange: ExchangeId,
    method: Method,
    /// Order of the packet in which its head began.
    order: u64,
}

/// What a response head is paired with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Paired {
    pub(super) exchange: ExchangeId,
    pub(super) method: Method,
    /// A request was seen for it.
    pub(super) matched: bool,
}

/// Requests and responses in flight.
#[derive(Debug)]
pub(super) struct Pairing {
    last: u64,
    waiting: VecDeque<Waiting>,
    /// Requests above the limit, not kept; their responses come after all of `waiting`.
    overflow: u64,
    /// Responses that began before their request was seen: exchange and order.
    early: VecDeque<(ExchangeId, u64)>,
    limit: usize,
    /// A request was sent before the response to the one before it began.
    pipelined: bool,
    /// Request bytes were lost in a place that may have held a head.
    requests_lost: bool,
    /// Response bytes were; which request the next response answers must be found again.
    responses_lost: bool,
    /// Loss and pipelining together: order proves nothing any more.
    broken: bool,
}

/// What a request head brings about.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) exchange: ExchangeId,
    /// It is not kept: its response will come unpaired.
    pub(super) above_limit: bool,
}

impl Pairing {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            last: 0,
            waiting: VecDeque::new(),
            overflow: 0,
            early: VecDeque::new(),
            limit,
            pipelined: false,
            requests_lost: false,
            responses_lost: false,
            broken: false,
        }
    }

    fn next_id(&mut self) -> ExchangeId {
        self.last = self.last.saturating_add(1);
        ExchangeId(self.last)
    }

    /// A request head. Exchanges whose response turns out to have no request go to `orphans`.
    pub(super) fn request(&mut self, method: Method, order: u64, orphans: &mut Vec<ExchangeId>) -> Opened {
        if self.requests_lost {
            // A response that began before this request answers one that was lost.
            while let Some((exchange, begun)) = self.early.front().copied() {
                if begun >= order {
                    break;
                }
                orphans.push(exchange);
                self.early.pop_front();
            }
        }
        if let Some((exchange, _)) = self.early.pop_front() {
            return Opened {
                exchange,
                above_limit: false,
            };
        }
        let exchange = self.next_id();
        let above_limit = self.overflow > 0 || self.waiting.len() >= self.limit;
        if above_limit {
            self.overflow = self.overflow.saturating_add(1);
        } else {
            self.waiting.push_back(Waiting {
                exchange,
                method,
                order,
            });
        }
        Opened {
            exchange,
            above_limit,
        }
    }

    /// The head of a final response. Exchanges that will never be answered go to `unanswered`.
    pub(super) fn response(
        &mut self,
        order: u64,
        in_step: bool,
        unanswered: &mut Vec<ExchangeId>,
    ) -> (Paired, bool) {
        let lost = std::mem::take(&mut self.responses_lost);
        if lost && self.waiting.len() > 1 {
            if self.pipelined {
                self.broken = true;
                unanswered.extend(self.waiting.drain(..).map(|w| w.exchange));
            } else {
                // One at a time: the latest request sent before this response is the one.
                while self.waiting.get(1).is_some_and(|next| next.order < order) {
                    unanswered.extend(self.waiting.pop_front().map(|w| w.exchange));
                }
            }
        }
        if !self.broken
            && let Some(waiting) = self.waiting.pop_front()
        {
            if self.waiting.front().is_some_and(|next| next.order < order) {
                self.pipelined = true;
            }
            let paired = Paired {
                exchange: waiting.exchange,
                method: waiting.method,
                matched: true,
            };
            return (paired, false);
        }
        if self.broken {
            unanswered.extend(self.waiting.drain(..).map(|w| w.exchange));
        }
        let exchange = self.next_id();
        let may_come =
            in_step && !self.broken && self.overflow == 0 && !lost && self.early.len() < self.limit;
        self.overflow = self.overflow.saturating_sub(1);
        if may_come {
            self.early.push_back((exchange, order));
        }
        let paired = Paired {
            exchange,
            method: Method::Other,
            matched: false,
        };
        (paired, !may_come)
    }

    pub(super) fn requests_lost(&mut self) {
        self.requests_lost = true;
        if self.pipelined {
            self.broken = true;
        }
    }

    pub(super) fn responses_lost(&mut self) {
        self.responses_lost = true;
    }

    /// Requests that no response has answered, at the end.
    pub(super) fn unanswered(&mut self) -> impl Iterator<Item = ExchangeId> + '_ {
        self.waiting.drain(..).map(|w| w.exchange)
    }

    /// Responses whose request never came, at the end.
    pub(super) fn orphans(&mut self) -> impl Iterator<Item = ExchangeId> + '_ {
        self.early.drain(..).map(|(exchange, _)| exchange)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(p: &mut Pairing, order: u64) -> (u64, bool, Vec<u64>) {
        let mut lost = Vec::new();
        let (paired, _) = p.response(order, true, &mut lost);
        (
            paired.exchange.0,
            paired.matched,
            lost.into_iter().map(|e| e.0).collect(),
        )
    }

    fn ask(p: &mut Pairing, order: u64) -> u64 {
        p.request(Method::Other, order, &mut Vec::new()).exchange.0
    }

    #[test]
    fn pairs_in_order_also_when_pipelined() {
        let mut p = Pairing::new(8);
        assert_eq!((ask(&mut p, 1), ask(&mut p, 2)), (1, 2));
        assert_eq!(answer(&mut p, 3), (1, true, vec![]));
        assert_eq!(answer(&mut p, 4), (2, true, vec![]));
    }

    #[test]
    fn a_lost_response_leaves_its_request_unanswered() {
        let mut p = Pairing::new(8);
        ask(&mut p, 1);
        p.responses_lost();
        ask(&mut p, 5);
        ask(&mut p, 9);
        assert_eq!(answer(&mut p, 6), (2, true, vec![1]));
        assert_eq!(answer(&mut p, 10), (3, true, vec![]));
    }

    #[test]
    fn loss_among_pipelined_requests_leaves_them_unpaired() {
        let mut p = Pairing::new(8);
        ask(&mut p, 1);
        ask(&mut p, 2);
        ask(&mut p, 3);
        assert_eq!(answer(&mut p, 4), (1, true, vec![]));
        p.responses_lost();
        assert_eq!(answer(&mut p, 9), (4, false, vec![2, 3]));
    }

    #[test]
    fn a_request_released_late_meets_its_response() {
        let mut p = Pairing::new(8);
        // Requests 1 (lost), 3 and 5 held behind the hole; responses at 2, 4 and 6.
        for order in [2, 4, 6] {
            assert!(!answer(&mut p, order).1);
        }
        p.requests_lost();
        let mut orphans = Vec::new();
        assert_eq!(p.request(Method::Other, 3, &mut orphans).exchange.0, 2);
        assert_eq!(p.request(Method::Other, 5, &mut orphans).exchange.0, 3);
        assert_eq!(orphans, [ExchangeId(1)]);
    }

    #[test]
    fn requests_above_the_limit_do_not_shift_the_pairs() {
        let mut p = Pairing::new(2);
        for order in 1..=4 {
            ask(&mut p, order);
        }
        assert_eq!(answer(&mut p, 5).0, 1);
        assert_eq!(answer(&mut p, 6).0, 2);
        assert!(!answer(&mut p, 7).1);
        assert!(!answer(&mut p, 8).1);
        let fifth = ask(&mut p, 9);
        assert_eq!(answer(&mut p, 10), (fifth, true, vec![]));
    }
}
