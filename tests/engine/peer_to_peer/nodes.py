"""Nodes for the tests of this folder: a vector, a target, and whatever rule they mix with."""

from __future__ import annotations

import threading

import numpy as np
import torch


class Quadratic:
    """Half the squared distance to a target: the gradient is ``theta - target``."""

    def __init__(self, target, rule=None, pre=None):
        self.target = target
        self.theta = target * 0
        self.p2p_agg, self.p2p_pre = rule, pre

    def p2p_half_step(self, lr):
        self.theta = self.theta - lr * (self.theta - self.target)
        return self.theta

    def p2p_aggregate_and_set(self, self_theta_half, neighbor_vectors):
        rows = [self_theta_half, *neighbor_vectors]
        if self.p2p_pre is not None:
            rows = self.p2p_pre.pre_aggregate(rows)
        self.theta = self.p2p_agg.aggregate(rows)

    def get_param_vector(self):
        return self.theta


class Coroutines:
    """The same with coroutines."""

    def __init__(self, target, rule):
        self.inner = Quadratic(target, rule)

    async def p2p_half_step(self, lr):
        return self.inner.p2p_half_step(lr)

    async def p2p_aggregate_and_set(self, self_theta_half, neighbor_vectors):
        self.inner.p2p_aggregate_and_set(self_theta_half, neighbor_vectors)

    async def get_param_vector(self):
        return self.inner.theta


class Stub:
    """A node that only steps."""

    def __init__(self):
        self.steps = 0

    async def p2p_half_step(self, lr):
        self.steps += 1
        return torch.full((2,), float(self.steps))


class Constant:
    """A Byzantine node that tells everybody the same."""

    def __init__(self, value):
        self.value = value
        self.seen = []

    def p2p_broadcast_vector(self, neighbor_vectors=None, like=None):
        self.seen.append([v.copy() if isinstance(v, np.ndarray) else v.clone() for v in neighbor_vectors])
        return like * 0 + self.value


class TwoFaced:
    """A Byzantine node that tells everybody its index, and remembers what it was shown of whom."""

    def __init__(self):
        self.likes = {}

    def p2p_vector_for(self, receiver, neighbor_vectors=None, like=None):
        self.likes[receiver] = float(like[0])
        return like * 0 + 100.0 * (receiver + 1)


class Reusing:
    """A Byzantine node that tells everybody its index, in the same memory each time."""

    def __init__(self, like):
        self.buffer = like * 0

    def p2p_vector_for(self, receiver, neighbor_vectors=None, like=None):
        self.buffer[:] = 100.0 * (receiver + 1)
        return self.buffer


class InPlace:
    """A node that steps and mixes in place and gives what it holds; before its first mixing it may wait."""

    arrived, gate = threading.Semaphore(0), threading.Event()  # it has mixed, or waits; it may go on

    def __init__(self, start, waits=False):
        self.theta, self.waits = start * 1, waits

    def p2p_half_step(self, lr):
        self.theta += 1
        return self.theta

    def p2p_aggregate_and_set(self, self_theta_half, neighbor_vectors):
        if self.waits:
            self.waits = False
            self.arrived.release()
            self.gate.wait(timeout=30)
        self.theta[:] = sum([self_theta_half, *neighbor_vectors]) / (1 + len(neighbor_vectors))
        self.arrived.release()

    def get_param_vector(self):
        return self.theta


class Vandal:
    """A Byzantine node that writes into all it is shown, and later into what it has sent."""

    def __init__(self):
        self.sent = None

    def p2p_broadcast_vector(self, neighbor_vectors=None, like=None):
        if self.sent is not None:
            self.sent[:] = float("nan")
        for vector in (*neighbor_vectors, like):
            vector[:] = 1e9
        self.sent = like * 0 + 1.0
        return self.sent


class Hanging:
    """A node that answers nothing until it is let go."""

    def __init__(self):
        self.gate = threading.Event()

    def p2p_half_step(self, lr):
        self.gate.wait(timeout=30)
        return np.zeros(2)

    p2p_broadcast_vector = p2p_half_step


class Failing:
    """A node that gives whatever it was told to."""

    def __init__(self, answer):
        self.answer = answer

    def p2p_half_step(self, lr):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def p2p_broadcast_vector(self, neighbor_vectors=None, like=None):
        return self.p2p_half_step(0)


def by_hand(thetas, targets, topology, lr, rules, sent_by=None):
    """One round by its definition: `sent_by` gives what Byzantine node j sends to receiver i."""
    halves = [theta - lr * (theta - target) for theta, target in zip(thetas, targets, strict=True)]

    def sent(j, i):
        return halves[j] if j < len(halves) else sent_by(j, i)

    return [
        rules[i]([halves[i], *(sent(j, i) for j in topology.in_neighbors(i))]) for i in range(len(halves))
    ]


def targets(h, d=4, seed=0):
    return list(np.random.default_rng(seed).normal(size=(h, d)))


async def play(p2p, rounds=1):
    async with p2p:
        for _ in range(rounds):
            await p2p.round()
