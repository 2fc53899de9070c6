//! What concerns more than one view: how views follow each other, and what is said across their
//! boundaries.

use super::{
    Body, Command, Cut, Cx, Input, InputOf, Message, Multicast, Timer,
    group::Group,
    learning::{Learning, Lesson},
};
use crate::{
    id::NodeId,
    planted::Bug,
    view::{Saved, View},
};
use alloc::vec::Vec;

/// Whether this input is more than the group of one view can handle.
pub(super) fn is_beyond_view(input: &InputOf<Multicast>) -> bool {
    match input {
        Input::Message { message, .. } => {
            matches!(message.body, Body::Fetch { .. } | Body::Learn { .. } | Body::Lesson { .. })
        }
        Input::Timer(timer) => *timer == Timer::Learn,
        Input::Start(_) | Input::Appended(_) => true,
        Input::Command(command) => matches!(
            command,
            Command::Install { .. }
                | Command::Restore { .. }
                | Command::Close { .. }
                | Command::Out
                | Command::Learn { .. }
        ),
        _ => false,
    }
}

impl Multicast {
    pub(super) fn beyond_view(&mut self, input: InputOf<Self>, cx: &mut Cx<'_>) {
        match input {
            Input::Start(saved) => self.on_start(saved.map(|saved| *saved), cx),
            Input::Appended(number) => self.on_appended(number, cx),
            Input::Message { from, message } => self.on_message(from, message, cx),
            Input::Timer(_) => self.on_learn_timer(cx),
            Input::Command(Command::Install { view, cut }) => self.on_install(&view, &cut, cx),
            Input::Command(Command::Restore { view, cut }) => self.on_restore(&view, &cut, cx),
            Input::Command(Command::Close { cut }) => self.on_close(&cut, cx),
            Input::Command(Command::Out) => self.on_out(cx),
            Input::Command(Command::Learn { teachers }) => self.on_learn(teachers, cx),
            _ => {}
        }
        if let Some(group) = &mut self.group {
            group.settle(cx);
        }
    }

    pub(super) fn between_views(&mut self, input: InputOf<Self>, cx: &mut Cx<'_>) {
        let Some(log) = &mut self.log else { return };
        match input {
            Input::Command(Command::Send { ticket, payload }) => log.on_send(ticket, payload, cx),
            Input::Command(Command::Read { bytes }) => {
                log.on_read(bytes);
                if let Some(learning) = &mut self.learning {
                    learning.go_on(log, cx);
                }
            }
            Input::Command(Command::Leave) => {
                log.on_leave();
                log.give_up(cx);
                // What this life will not take part in it need not know.
                self.end_learning(cx);
            }
            _ => {}
        }
    }

    fn on_message(&mut self, from: NodeId, message: Message, cx: &mut Cx<'_>) {
        let possible = match message.body {
            Body::Fetch { sender, from: first, to } => {
                self.on_fetch(from, message.view, usize::from(sender), (first, to), cx)
            }
            Body::Learn { from: first } => self.log().on_learn(from, first, cx),
            Body::Lesson { from: asked, deliveries, position } => {
                self.on_lesson(from, Lesson { asked, deliveries, position }, cx)
            }
            _ => true,
        };
        if !possible {
            self.log_mut().ignored.add();
        }
    }

    /// An earlier life was a member of this view (V6).
    fn on_restore(&mut self, view: &View, cut: &Cut, cx: &mut Cx<'_>) {
        let is_restored = |group: &Group| group.standing.is_restored() && group.view == view.number;
        if self.group.as_ref().is_some_and(is_restored) {
            return; // At the start, for its report.
        }
        // What is learned from here on could be delivered twice: it may be in the view.
        self.end_learning(cx);
        let remembers = self.end_restored(view.number, cut, cx);
        if let Some(mut log) = self.log.take() {
            let segment =
                if remembers { log.resume(view, cut, cx) } else { log.remember(view, cut, cx) };
            self.group = Some(Group::restored(log, view, cut, segment.as_ref(), cx));
        }
    }

    /// Who was mute in a view delivers nothing at its end, unless it has everything of it (T9): then
    /// this is true.
    fn end_restored(&mut self, next: u64, cut: &Cut, cx: &mut Cx<'_>) -> bool {
        let Some(group) = self.group.take_if(|group| group.standing.is_restored()) else {
            return false;
        };
        let closes = group.standing.remembers() && group.view + 1 == next;
        let closes = closes && !cut.lost && group.has(cut);
        let log = if closes { group.close(cut, cx) } else { group.end_restored(cut, cx) };
        self.log = Some(log);
        closes
    }

    /// What an earlier life has left in its log.
    fn on_start(&mut self, saved: Option<Saved>, cx: &mut Cx<'_>) {
        if let (Some(saved), Some(log)) = (saved, self.log.as_mut())
            && log.config.durable
        {
            log.recall(saved.log, &saved.record.installed.view, cx);
        }
    }

    fn on_appended(&mut self, number: u64, cx: &mut Cx<'_>) {
        self.log_mut().on_appended(number, cx);
        if let Some(group) = &mut self.group {
            group.on_appended(cx);
        }
        if let Some(mut learning) = self.learning.take() {
            learning.go_on(self.log(), cx);
            self.go_on_learning(learning, cx);
        }
    }

    fn on_install(&mut self, view: &View, cut: &Cut, cx: &mut Cx<'_>) {
        self.end_restored(view.number, cut, cx);
        if let Some(group) = self.group.take() {
            // Taken in anew, since memories are lost for good (V5).
            self.log = Some(group.part(cx));
        }
        let Some(mut log) = self.log.take() else { return };
        if view.number == 1 && log.position > 0 {
            // What was learned is the order of another group, which is no more.
            log = log.begin_anew(cx);
        }
        if view.len() == 1 && log.position < cut.position {
            log.miss(cut.position + 1, cx); // There is nobody to learn it from.
        }
        let group = Group::new(log, view, cut, cx);
        if group.standing.behind {
            let teachers = group.audience.to_vec();
            let mut learning = Learning::new(teachers, Some(cut.position), cx.now());
            learning.begin(&group.log, cx);
            self.learning = Some(learning);
        } else {
            self.end_learning(cx);
        }
        self.group = Some(group);
    }

    fn on_close(&mut self, cut: &Cut, cx: &mut Cx<'_>) {
        let Some(group) = self.group.take() else { return };
        self.log = Some(group.close(cut, cx));
    }

    fn on_out(&mut self, cx: &mut Cx<'_>) {
        let Some(group) = self.group.take() else { return };
        self.end_learning(cx);
        let log = self.log.insert(group.part(cx));
        if log.leaving {
            log.give_up(cx);
        }
    }

    fn on_learn(&mut self, teachers: Vec<NodeId>, cx: &mut Cx<'_>) {
        // A member learns only what comes before its view.
        let base = self.learning.as_ref().and_then(Learning::base);
        if self.group.is_some() && base.is_none() {
            return;
        }
        let mut learning = Learning::new(teachers, base, cx.now());
        learning.begin(self.log(), cx);
        self.learning = Some(learning);
    }

    fn on_learn_timer(&mut self, cx: &mut Cx<'_>) {
        let Some(mut learning) = self.learning.take() else { return };
        learning.on_timer(self.log_mut(), cx);
        self.go_on_learning(learning, cx);
    }

    /// Who asks may be in the view that has ended here, or in this one.
    fn on_fetch(
        &mut self,
        from: NodeId,
        view: u64,
        sender: usize,
        range: (u64, u64),
        cx: &mut Cx<'_>,
    ) -> bool {
        if let Some(group) = self.group.as_ref().filter(|group| group.view == view) {
            return group.on_fetch(from, sender, range, cx);
        }
        let ended = self.log().ended.as_ref().filter(|ended| ended.view() == view);
        ended.is_none_or(|ended| ended.on_fetch(from, sender, range, cx))
    }

    fn on_lesson(&mut self, from: NodeId, lesson: Lesson, cx: &mut Cx<'_>) -> bool {
        let Some(mut learning) = self.learning.take() else { return true };
        let possible = learning.on_lesson(from, lesson, self.log_mut(), cx);
        self.go_on_learning(learning, cx);
        possible
    }

    /// A joiner that has all that comes before its view takes part in it from now on.
    fn go_on_learning(&mut self, learning: Learning, cx: &mut Cx<'_>) {
        // T9: it will acknowledge what it may be asked to remember.
        let durably = self.log().knows_durably() || cx.has(Bug::CountsUnsavedLessons);
        let complete = learning.is_complete(self.log()) && durably;
        self.learning = Some(learning);
        if let Some(group) = self.group.as_mut().filter(|_| complete) {
            group.on_learned(cx);
            self.end_learning(cx);
        }
    }

    fn end_learning(&mut self, cx: &mut Cx<'_>) {
        if self.learning.take().is_some() {
            cx.cancel_timer(Timer::Learn);
        }
    }
}
