//! Requests of members and of the host, and the ends of tasks and members.

use std::time::Duration;

use super::event::{Action, Actor, CallId, JobId, MemberId, ObjectId, SiteId};
use super::member::Handed;
use super::refusal::{failed, word};
use super::serve::Taken;
use super::wait::{Asker, Awaited, Times, Wait};
use super::{Exchange, STALL_TIME};
use crate::spec::exchange::{Act, Answer, Ask, Code, Granted, ObjectKind, Op};

/// The asker of a request, and how long the answer may take.
#[derive(Debug, Clone, Copy)]
struct Request {
    asker: Asker,
    name: Option<Granted>,
    times: Times,
}

impl Exchange {
    pub(super) fn asked(&mut self, member: MemberId, ask: Ask, actions: &mut Vec<Action>) {
        let Some(known) = self.members.get(&member) else { return };
        if known.is_cancelled(ask.task) {
            // What it does with the last item, it will not do any more.
            self.not_acknowledged(member, actions);
            self.begin_task(member, ask.task, actions);
            actions.push(Action::Answer { member, answer: Answer::Cancelled });
            return;
        }
        self.acknowledged(member, actions);
        self.begin_task(member, ask.task, actions);
        let Some(known) = self.members.get(&member) else { return };
        let at = |time: Duration| self.now.saturating_add(time);
        let times = Times {
            until: ask.timeout.map(at),
            limit: ask.left.map(at),
            stall: known.may_stall(ask.task).then(|| at(STALL_TIME)),
        };
        let request = Request { asker: Asker::Task { member, task: ask.task }, name: None, times };
        match ask.op {
            Op::Open { kind, name } => self.open(member, kind, &name, actions),
            Op::On { object, act } => match known.granting(object) {
                Some(granting) => {
                    let id = granting.object;
                    self.request(Request { name: Some(object), ..request }, id, act, actions);
                }
                None => self.refuse_unknown(member, actions),
            },
            Op::Wait { objects } => {
                let known = objects.iter().map(|granted| Some(known.granting(*granted)?.object));
                match known.collect() {
                    Some(objects) => self.request_several(request, objects, actions),
                    None => self.refuse_unknown(member, actions),
                }
            }
            Op::Call { function, args } => self.call(request, member, function, args, actions),
        }
    }

    fn refuse_unknown(&self, member: MemberId, actions: &mut Vec<Action>) {
        let answer = failed(Code::NotGranted, "this object is not granted".to_owned());
        actions.push(Action::Answer { member, answer });
    }

    fn open(&self, member: MemberId, kind: ObjectKind, name: &str, actions: &mut Vec<Action>) {
        let found = self.members.get(&member).and_then(|member| member.find(kind, name));
        let answer = match found {
            Some(object) => Answer::Opened { object },
            None => failed(Code::NotGranted, format!("no {} with the name {name} is granted", word(kind))),
        };
        actions.push(Action::Answer { member, answer });
    }

    pub(super) fn host_asked(
        &mut self,
        asker: Asker,
        object: ObjectId,
        act: Act,
        timeout: Option<Duration>,
        actions: &mut Vec<Action>,
    ) {
        let request = self.host_request(asker, timeout);
        self.request(request, object, act, actions);
    }

    pub(super) fn host_waits(
        &mut self,
        asker: Asker,
        objects: Vec<ObjectId>,
        timeout: Option<Duration>,
        actions: &mut Vec<Action>,
    ) {
        let request = self.host_request(asker, timeout);
        self.request_several(request, objects, actions);
    }

    fn host_request(&self, asker: Asker, timeout: Option<Duration>) -> Request {
        let until = timeout.map(|timeout| self.now.saturating_add(timeout));
        Request { asker, name: None, times: Times { until, ..Times::default() } }
    }

    /// Does an act with an object, or lets the asker wait.
    fn request(&mut self, request: Request, object: ObjectId, act: Act, actions: &mut Vec<Action>) {
        let Request { asker, name, .. } = request;
        let actor = asker.actor();
        // What is sent by one end of a pipe is put at the other.
        let place = match self.sending_place(object, &act) {
            Ok(place) => place,
            Err(refusal) => {
                let answer = refusal.answer(&self.subject(asker, name, object));
                return self.send(asker, answer, actions);
            }
        };
        if !self.objects.contains_key(&place) {
            let answer = failed(Code::Closed, "the object does not exist any more".to_owned());
            return self.send(asker, answer, actions);
        }
        let (is_close, is_put) = (act == Act::Close, matches!(act, Act::Put { .. }));
        // Other acts do not see the items.
        if matches!(act, Act::Get { .. } | Act::Poll | Act::Status | Act::Close) {
            self.recall(place, actions);
        }
        if is_close {
            // Before the answer: from then on no member may believe that it can put.
            self.revoke_credits(place, actions);
        }
        let Some(slot) = self.objects.get_mut(&place) else { return };
        match slot.object.as_mut().act(actor, act) {
            Taken::Now(Ok(answer)) => self.send(asker, answer, actions),
            Taken::Now(Err(refusal)) => {
                let answer = refusal.answer(&self.subject(asker, name, object));
                return self.send(asker, answer, actions);
            }
            Taken::Needs(mut need) => match slot.object.as_mut().begin(actor, &mut need) {
                Some(outcome) => {
                    if is_put {
                        self.give_credit(asker, name, place, actions);
                    }
                    self.give_lease(asker, name, place, actions);
                    self.reply(asker, name, place, outcome, actions);
                }
                None => self.enlist(request, place, need, actions),
            },
        }
        self.note_hold(asker, place);
        if is_close {
            self.tell_other_end(place, actions);
        }
        self.settle(place, actions);
    }

    fn enlist(
        &mut self,
        request: Request,
        object: ObjectId,
        need: super::wait::Need,
        actions: &mut Vec<Action>,
    ) {
        let wait = self.begin_wait(request, Awaited::One { object, need });
        self.enter_line(wait);
        // A put that waits for room may have it now. Nothing is given ahead while it waits.
        self.recall(object, actions);
    }

    fn begin_wait(&mut self, request: Request, awaited: Awaited) -> super::wait::WaitId {
        let Request { asker, name, times } = request;
        let wait = self.waits.insert(Wait { asker, name, awaited, times, since: self.now });
        self.note_wait(asker, wait);
        wait
    }

    fn request_several(&mut self, request: Request, objects: Vec<ObjectId>, actions: &mut Vec<Action>) {
        let asker = request.asker;
        for object in &objects {
            self.recall(*object, actions);
            if let Err(refusal) = self.check_watchable(*object) {
                let answer = refusal.answer(&self.subject(asker, None, *object));
                return self.send(asker, answer, actions);
            }
        }
        let ready = self.ready(&objects);
        if !ready.is_empty() || objects.is_empty() {
            return self.send(asker, Answer::Ready(ready), actions);
        }
        let wait = self.begin_wait(request, Awaited::Several { objects: objects.clone() });
        for object in objects {
            if let Some(watchers) = self.object(object).and_then(|served| served.watchers()) {
                watchers.insert(wait);
            }
        }
    }

    fn call(
        &mut self,
        request: Request,
        member: MemberId,
        function: u32,
        args: Vec<u8>,
        actions: &mut Vec<Action>,
    ) {
        self.last_call += 1;
        let call = self.last_call;
        let wait = self.begin_wait(request, Awaited::Call { call });
        self.calls.insert(call, wait);
        actions.push(Action::Call { call, member, function, args });
    }

    pub(super) fn returned(&mut self, call: CallId, answer: Answer, actions: &mut Vec<Action>) {
        // The task may be over.
        let Some(wait) = self.calls.get(&call) else { return };
        if let Some(wait) = self.take_wait(*wait) {
            self.send(wait.asker, answer, actions);
        }
    }

    /// The member has taken what the last answer gave it.
    pub(super) fn acknowledged(&mut self, member: MemberId, actions: &mut Vec<Action>) {
        self.note_taken(member, actions);
        let handed = self.members.get_mut(&member).and_then(|known| known.handed.take());
        self.settle_acknowledged(handed, actions);
    }

    pub(super) fn settle_acknowledged(&mut self, handed: Option<Handed>, actions: &mut Vec<Action>) {
        match handed {
            Some(Handed::Items { object, items }) => {
                if let Some(store) = self.object(object).and_then(|served| served.store()) {
                    store.acknowledge(&items);
                    self.settle(object, actions);
                }
            }
            Some(Handed::Notification { .. }) | None => {}
        }
    }

    /// The member is at this task. Tasks before it are over.
    pub(super) fn begin_task(&mut self, member: MemberId, task: u64, actions: &mut Vec<Action>) {
        self.drop_wait(member, actions);
        let Some(known) = self.members.get_mut(&member) else { return };
        if task > known.task {
            self.recall_from(member, actions);
            self.take_credits(member, actions);
            self.release_holds(member, task - 1, actions);
        }
        if let Some(known) = self.members.get_mut(&member) {
            known.task = known.task.max(task);
        }
    }

    pub(super) fn ended(
        &mut self,
        member: MemberId,
        task: u64,
        has_returned: bool,
        actions: &mut Vec<Action>,
    ) {
        let is_unwanted = self.members.get(&member).is_some_and(|member| member.is_unwanted(task));
        if has_returned && !is_unwanted {
            self.acknowledged(member, actions);
        } else {
            self.not_acknowledged(member, actions);
        }
        self.drop_wait(member, actions);
        let Some(known) = self.members.get_mut(&member) else { return };
        known.end(task);
        self.recall_from(member, actions);
        self.take_credits(member, actions);
        self.release_holds(member, task, actions);
    }

    pub(super) fn cancelled(&mut self, member: MemberId, tasks: u64, actions: &mut Vec<Action>) {
        if let Some(known) = self.members.get_mut(&member) {
            known.cancel(tasks);
            self.end_cancelled_wait(member, actions);
        }
    }

    pub(super) fn unwanted(&mut self, site: SiteId, job: Option<JobId>, actions: &mut Vec<Action>) {
        let of_site = self.members.iter_mut().filter(|(_, member)| member.site == site);
        let concerned = of_site.filter_map(|(id, member)| member.drop_job(job).then_some(*id));
        for member in concerned.collect::<Vec<_>>() {
            self.end_cancelled_wait(member, actions);
        }
    }

    fn end_cancelled_wait(&mut self, member: MemberId, actions: &mut Vec<Action>) {
        let Some(known) = self.members.get(&member) else { return };
        if !known.is_cancelled(known.task) {
            return;
        }
        // Its next get is then told.
        self.recall_from(member, actions);
        if let Some(wait) = self.members.get(&member).and_then(|known| known.wait)
            && let Some(asker) = self.withdraw(wait, actions)
        {
            self.send(asker, Answer::Cancelled, actions);
        }
    }

    pub(super) fn gone(&mut self, member: MemberId, actions: &mut Vec<Action>) {
        let Some(known) = self.members.get(&member) else { return };
        if let Some(wait) = known.wait {
            self.withdraw(wait, actions);
        }
        self.not_acknowledged(member, actions);
        self.take_credits(member, actions);
        self.release_holds(member, u64::MAX, actions);
        if let Some(known) = self.members.remove(&member) {
            if let Some(site) = self.sites.get_mut(&known.site) {
                site.members -= 1;
            }
            self.forget_site_if_over(known.site);
            self.arm_deadlock_check();
        }
    }

    /// What the last answer gave to the member was not taken.
    fn not_acknowledged(&mut self, member: MemberId, actions: &mut Vec<Action>) {
        self.recall_from(member, actions);
        let handed = self.members.get_mut(&member).and_then(|member| member.handed.take());
        let object = match handed {
            Some(Handed::Items { object, items }) => {
                // They come before what another member has ahead.
                self.recall(object, actions);
                if let Some(store) = self.object(object).and_then(|served| served.store()) {
                    store.give_back(items);
                }
                object
            }
            Some(Handed::Notification { object }) => {
                if let Some(served) = self.object(object) {
                    served.pass_on();
                }
                object
            }
            None => return,
        };
        self.settle(object, actions);
    }

    /// A member that says something has no open request. One that had would wait for ever.
    fn drop_wait(&mut self, member: MemberId, actions: &mut Vec<Action>) {
        if let Some(wait) = self.members.get(&member).and_then(|member| member.wait)
            && let Some(asker) = self.withdraw(wait, actions)
        {
            self.send(asker, Answer::Cancelled, actions);
        }
    }

    /// The member's tasks up to `last` are over. The next owners of what they hold are told.
    fn release_holds(&mut self, member: MemberId, last: u64, actions: &mut Vec<Action>) {
        let Some(known) = self.members.get_mut(&member) else { return };
        let over: Vec<(ObjectId, u64)> = known.holds.extract_if(.., |_, task| *task <= last).collect();
        for (object, task) in over {
            if let Some(served) = self.object(object) {
                served.release_of(Actor::Task { member, task });
                self.settle(object, actions);
            }
        }
    }
}
