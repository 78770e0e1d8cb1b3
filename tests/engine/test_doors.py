"""Natural mistakes are refused where they are made, and the error says what was required."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import torch

from byzflow import run_operator
from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.attacks import SignFlipAttack
from byzflow.engine.actor.backends.gpu import UCXRemoteActorBackend
from byzflow.engine.actor.backends.remote import RemoteActorBackend, RemoteActorServer
from byzflow.engine.graph.graph import ComputationGraph, GraphNode, graph_input
from byzflow.engine.graph.ops import CallableOp
from byzflow.engine.graph.pool import ActorPoolConfig
from byzflow.engine.graph.scheduler import MessageAwareNodeScheduler, NodeScheduler
from byzflow.engine.node.actors import HonestNodeActor, Recipe
from byzflow.engine.node.application import NodeApplication
from byzflow.engine.node.context import InProcessContext
from byzflow.engine.node.decentralized import DecentralizedNode
from byzflow.engine.node.mesh_context import MeshRemoteContext
from byzflow.engine.node.remote_client import RemoteNodeClient
from byzflow.engine.node.remote_server import RemoteNodeServer
from byzflow.engine.node.torch import TorchHonestNode
from byzflow.engine.parameter_server.ps import ParameterServer
from byzflow.engine.peer_to_peer.gossip import UBAR, PlainGossip
from byzflow.engine.peer_to_peer.topology import Topology
from byzflow.engine.peer_to_peer.train import PeerToPeer
from byzflow.utils.training import train_with_progress

RULE = CoordinateWiseMedian()
ROWS = [np.full(3, float(i)) for i in range(4)]


class Node:
    def honest_gradient_for_next_batch(self):
        return np.ones(3)

    def apply_server_gradient(self, g):
        pass


def application():
    return NodeApplication(name="a", actor_pool=[ActorPoolConfig("thread")])


def node(**changed):
    given = {"node_id": "a", "application": application(), "context": InProcessContext()}
    return DecentralizedNode(**{**given, **changed})


NAMED = GraphNode("a", RULE, {"gradients": graph_input("g")})

AT_ONCE = {
    "a class of nodes": (lambda: ParameterServer([Node], [], RULE), "the class Node"),
    "a class of peers": (lambda: PeerToPeer([Node], [], Topology.ring(1)), "the class Node"),
    "metadata of a server": (
        lambda: ParameterServer([Node()], [], RULE, scheduler_metadata=5),
        "scheduler_metadata must be a mapping",
    ),
    "a rule as a graph": (lambda: ComputationGraph(RULE), "nodes must be a sequence"),
    "rules as nodes of a graph": (lambda: ComputationGraph([RULE]), "nodes must be GraphNodes"),
    "names of inputs": (lambda: GraphNode("a", RULE, ["gradients"]), "inputs must be a mapping"),
    "values for inputs": (lambda: GraphNode("a", RULE, {"gradients": ROWS}), "got list for 'gradients'"),
    "a pool's kind": (lambda: NodeScheduler(ComputationGraph([NAMED]), pool="thread"), "run_subtask"),
    "metadata of a scheduler": (lambda: NodeScheduler(ComputationGraph([NAMED]), metadata=3), "metadata"),
    "no function": (lambda: CallableOp(3, input_mapping={}), "fn must be callable"),
    "a list of parameters": (lambda: CallableOp(len, input_mapping=["x"]), "input_mapping must be a mapping"),
    "letters as capabilities": (lambda: ActorPoolConfig("thread", capabilities="gpu"), "capabilities"),
    "a scheme as weights": (lambda: PlainGossip(mixing="metropolis"), "mixing must be a sequence.*rule.at"),
    "a loss's value": (lambda: UBAR(0.5, loss=3.0), "loss must be a function"),
    "no context": (lambda: node(context=None), "context must be an object"),
    "no application": (lambda: node(application=None), "application must be a NodeApplication"),
    "parameters as a vector": (
        lambda: RULE.aggregate([list(torch.nn.Linear(2, 2).parameters())]),
        "one array; got a list of Parameter",
    ),
    "vectors as a vector": (
        lambda: SignFlipAttack().apply(base_grad=ROWS),
        "one array; got a list of ndarray",
    ),
}


@pytest.mark.parametrize("mistake", AT_ONCE)
def test_a_mistake_is_refused_at_once(mistake):
    make, text = AT_ONCE[mistake]
    with pytest.raises(TypeError, match=text):
        make()


async def late():
    return Node()


PORTS = {
    "of a scheduler": lambda: RemoteActorBackend("localhost", 99999),
    "of a UCX scheduler": lambda: UCXRemoteActorBackend("localhost", 0),
    "to listen at": lambda: RemoteActorServer("localhost", -1),
    "of nodes to listen at": lambda: RemoteNodeServer(port=70000),
    "of a server of nodes": lambda: RemoteNodeClient("localhost", 65536),
    "of one's own": lambda: MeshRemoteContext("localhost", 99999, {}),
    "of a peer": lambda: MeshRemoteContext("localhost", 0, {"b": ("localhost", 0)}),
}


@pytest.mark.parametrize("place", PORTS)
def test_a_port_that_there_is_not_is_refused_at_once(place):
    with pytest.raises(ValueError, match=r"port.* must be from [01] to 65535; got"):
        PORTS[place]()


@pytest.mark.parametrize(
    "make",
    [
        lambda honest, liars: ParameterServer(honest, liars, RULE),
        lambda honest, liars: PeerToPeer(honest, liars, Topology.ring(2)),
    ],
    ids=["server", "peers"],
)
def test_a_node_that_is_given_twice_is_named(make):
    node = Node()
    with pytest.raises(ValueError, match=r"honest_nodes\[1\] is honest_nodes\[0\] too"):
        make([node, node], [])
    with pytest.raises(ValueError, match=r"byzantine_nodes\[0\] is honest_nodes\[0\] too"):
        make([node], [node])


AWAITED = {
    "rows without a name": (lambda: run_operator(RULE, ROWS), "inputs must be a mapping; got list"),
    "rows for messages": (
        lambda: MessageAwareNodeScheduler(ComputationGraph([NAMED])).run(ROWS),
        "inputs must be a mapping; got list",
    ),
    "a function as an operator": (
        lambda: NodeScheduler(ComputationGraph([GraphNode("a", len)])).run({}),
        "operator of node 'a' must be an object with run",
    ),
    "a rule as the graph": (
        lambda: NodeScheduler(RULE).run({}),
        "graph must be an object with nodes_in_order",
    ),
    "a node in place of its class": (lambda: HonestNodeActor.spawn(Node(), backend="thread"), "got a Node"),
    "one argument": (
        lambda: HonestNodeActor.spawn(Node, backend="thread", args=5),
        "args must be a sequence",
    ),
    "a pair in place of a recipe": (
        lambda: HonestNodeActor.spawn_many([(Node, ())], backend="thread"),
        "Each of recipes must be a Recipe; got tuple",
    ),
    "a recipe that is not in a list": (
        lambda: HonestNodeActor.spawn_many(Recipe(Node), backend="thread"),
        "recipes must be a sequence; got Recipe",
    ),
    "a coroutine as a factory": (
        lambda: HonestNodeActor.spawn(late, backend="thread"),
        "factory must return a node; got a coroutine",
    ),
    "no server": (lambda: train_with_progress(None, 3), "ps must be an object with round"),
    "rounds in letters": (
        lambda: train_with_progress(ParameterServer([Node()], [], RULE), "3"),
        "rounds must be a whole number",
    ),
}


@pytest.mark.parametrize("mistake", AWAITED)
async def test_a_mistake_is_refused_before_anything_is_done(mistake):
    make, text = AWAITED[mistake]
    with pytest.raises(TypeError, match=text):
        await asyncio.wait_for(make(), 10)


@pytest.mark.parametrize("rule", [None, CoordinateWiseMedian])
def test_a_peer_that_has_no_rule_to_mix_by_says_so(rule):
    peer = TorchHonestNode(torch.nn.Linear(1, 1), (torch.ones(2, 1), torch.zeros(2, dtype=int)), p2p_agg=rule)
    with pytest.raises(TypeError, match=r"p2p_agg must be an object with aggregate\(\)"):
        peer.p2p_aggregate_and_set(torch.ones(2), [torch.ones(2)])


async def test_an_evaluation_every_0_rounds_is_refused_before_the_first_round():
    server = ParameterServer([Node()], [], RULE)
    with pytest.raises(ValueError, match="eval_interval must be at least 1"):
        await train_with_progress(server, 3, lambda r: {}, eval_interval=0)
    assert server.history == []


async def test_a_node_that_nobody_awaited_is_named():
    for train in (
        lambda nodes: ParameterServer(nodes, [], RULE),
        lambda nodes: PeerToPeer(nodes, [], Topology.ring(1)),
    ):
        with pytest.raises(TypeError, match=r"got a coroutine. Await what spawns it"):
            train([HonestNodeActor.spawn(Node, backend="thread")])


def test_nodes_may_come_in_an_array():
    class Liar:
        def byzantine_gradient_for_next_batch(self, honest_grads):
            return -honest_grads[0]

        def p2p_broadcast_vector(self, neighbor_vectors=None, like=None):
            return -like

    class Peer:
        def p2p_half_step(self, lr):
            return np.ones(3)

    liars = np.array([Liar(), Liar()], dtype=object)
    honest = np.array([Node() for _ in range(3)], dtype=object)
    assert ParameterServer(honest, liars, RULE).round_sync().tolist() == [1.0, 1.0, 1.0]
    p2p = PeerToPeer([Peer(), Peer(), Peer()], liars, Topology.complete(5))
    p2p.round_sync()
    assert p2p.history[0].excluded == ()
