"""Ours against the vectors of Certificate Transparency's reference implementation, pymerkle and sigstore."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.merkle import EMPTY_ROOT, Frontier, hash_leaf, path_sides, prove_inclusion, root_from_inclusion, tree_root

# transparency-dev/merkle, testonly/constants.go and proof/verify_test.go; there, leaves of a path count from 1.
INPUTS = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
PATHS = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
LEAVES = [hash_leaf(bytes.fromhex(each)) for each in INPUTS]
SIZES = [*range(1, 18), 31, 32, 33, 63, 64, 65, 100]

entries = st.lists(st.binary(max_size=4), min_size=1, max_size=40)  # short, so that equal ones come up


@st.composite
def proofs(draw):
    """(leaves, index, proof) of any tree."""
    leaves = [hash_leaf(each) for each in draw(entries)]
    index = draw(st.integers(0, len(leaves) - 1))
    return leaves, index, prove_inclusion(leaves, index)


def make_leaves(size):
    return [hash_leaf(str(number).encode()) for number in range(size)]


def flip_bit(data, bit):
    return bytes(byte ^ (1 << bit % 8 if place == bit // 8 else 0) for place, byte in enumerate(data))


def test_empty_tree_has_the_hash_of_nothing():
    assert tree_root([]) == Frontier().root == EMPTY_ROOT
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_roots_are_those_of_the_reference():
    assert [tree_root(LEAVES[:size]).hex() for size in range(1, 9)] == ROOTS


@pytest.mark.parametrize(("index", "size"), PATHS)
def test_inclusion_proofs_are_those_of_the_reference(index, size):
    proof = prove_inclusion(LEAVES[:size], index)
    assert [each.hex() for each in proof] == PATHS[index, size]
    assert root_from_inclusion(LEAVES[index], index, size, proof).hex() == ROOTS[size - 1]


@given(entries, st.data())
def test_frontier_that_is_kept_and_taken_up_again_leads_to_the_same_root(data, draw):
    leaves = [hash_leaf(each) for each in data]
    cut = draw.draw(st.integers(0, len(leaves)))
    begun = Frontier()
    for leaf in leaves[:cut]:
        begun.append(leaf)
    kept = begun.size, tuple(begun.hashes)
    resumed = Frontier(*kept)
    for leaf in leaves[cut:]:
        resumed.append(leaf)
    assert (resumed.size, resumed.root) == (len(leaves), tree_root(leaves))
    assert (begun.size, tuple(begun.hashes), begun.root) == (*kept, tree_root(leaves[:cut]))


@given(entries, st.data())
def test_any_other_list_of_entries_has_another_root(data, draw):
    other = draw.draw(entries.filter(lambda each: each != data))
    assert tree_root(map(hash_leaf, other)) != tree_root(map(hash_leaf, data))


def test_node_cannot_pass_for_a_leaf():
    """The second preimage that RFC 6962 prefixes hashes for: an inner node's two hashes as one entry's bytes."""
    assert tree_root([hash_leaf(LEAVES[0] + LEAVES[1])]) != tree_root(LEAVES[:2])


@pytest.mark.parametrize("size", SIZES)
def test_every_leaf_has_a_proof_that_leads_to_the_root(size):
    leaves = make_leaves(size)
    root = tree_root(leaves)
    for index, leaf in enumerate(leaves):
        proof = prove_inclusion(leaves, index)
        assert len(proof) == len(path_sides(index, size)) <= (size - 1).bit_length()
        assert root_from_inclusion(leaf, index, size, proof) == root


@given(proofs(), st.data())
def test_a_flipped_bit_leads_elsewhere(made, draw):
    leaves, index, proof = made
    hashes = [leaves[index], *proof]
    place, bit = draw.draw(st.integers(0, len(hashes) - 1)), draw.draw(st.integers(0, 255))
    hashes[place] = flip_bit(hashes[place], bit)
    assert root_from_inclusion(hashes[0], index, len(leaves), hashes[1:]) != tree_root(leaves)


def test_every_single_flipped_bit_leads_elsewhere():
    hashes = [LEAVES[4], *prove_inclusion(LEAVES[:7], 4)]
    for place, data in enumerate(hashes):
        for bit in range(256):
            other = [*hashes[:place], flip_bit(data, bit), *hashes[place + 1 :]]
            assert root_from_inclusion(other[0], 4, 7, other[1:]) != tree_root(LEAVES[:7])


@pytest.mark.parametrize("size", SIZES)
def test_proof_of_one_leaf_is_none_of_another_leaf_or_place(size):
    leaves = make_leaves(size)
    root, index = tree_root(leaves), size // 2
    proof = prove_inclusion(leaves, index)
    assert not any(leads_to(root, leaf, index, size, proof) for leaf in leaves if leaf != leaves[index])
    assert not any(leads_to(root, leaves[index], other, size, proof) for other in range(size) if other != index)


@pytest.mark.parametrize("size", SIZES)
def test_proof_does_not_lead_to_the_root_of_another_size(size):
    leaves = make_leaves(max(SIZES) + 1)
    for index in {0, size // 2, size - 1}:
        proof = prove_inclusion(leaves[:size], index)
        for other in set(SIZES) - {size}:
            assert not leads_to(tree_root(leaves[:other]), leaves[index], index, other, proof)


def test_proof_alone_does_not_tell_the_size():
    """By RFC 6962: why a root counts only with the size that was signed beside it."""
    proof = prove_inclusion(LEAVES[:3], 0)
    assert root_from_inclusion(LEAVES[0], 0, 4, proof) == tree_root(LEAVES[:3])


def leads_to(root, leaf, index, size, proof):
    try:
        return root_from_inclusion(leaf, index, size, proof) == root
    except ValueError:
        return False


@given(proofs())
def test_proof_of_another_length_is_refused(made):
    leaves, index, proof = made
    for other in (proof[:-1], [*proof, bytes(32)]) if proof else ([bytes(32)],):
        with pytest.raises(ValueError, match=f"has {len(proof)} hashes, found {len(other)}"):
            root_from_inclusion(leaves[index], index, len(leaves), other)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_hashes_of_another_length_are_refused(length):
    proof = prove_inclusion(LEAVES, 3)
    for place in range(4):
        hashes = [LEAVES[3], *proof]
        hashes[place] = bytes(length)
        with pytest.raises(ValueError, match=f"32 bytes, found .*\\b{length}\\b"):
            root_from_inclusion(hashes[0], 3, 8, hashes[1:])


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0), (1, 0), (0, -1)])
def test_leaf_that_does_not_exist_has_no_proof(index, size):
    with pytest.raises(ValueError, match=f"leaf {index} is not one of"):
        prove_inclusion(LEAVES[: max(size, 0)], index)
    with pytest.raises(ValueError, match=f"leaf {index} is not one of {size}"):
        root_from_inclusion(LEAVES[0], index, size, [])


@pytest.mark.parametrize(("size", "n_hashes"), [(3, 1), (4, 2), (0, 1), (-1, 1)])
def test_frontier_needs_a_hash_for_each_complete_subtree(size, n_hashes):
    with pytest.raises(ValueError, match=f"a tree of {size} leaves has"):
        Frontier(size, [bytes(32)] * n_hashes)


def test_proof_in_a_huge_tree_is_short():
    assert len(path_sides(0, 1 << 62)) == 62
    with pytest.raises(ValueError, match="has 62 hashes, found 0"):
        root_from_inclusion(bytes(32), 0, 1 << 62, [])


# pymerkle counts leaves from 1 and puts the leaf's own hash in front of the path.


@pytest.mark.parametrize("size", SIZES)
def test_pymerkle_has_the_same_root_and_proofs(size):
    import pymerkle

    leaves = make_leaves(size)
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    tree.append_entries(str(number).encode() for number in range(size))
    assert tree.get_root() == tree_root(leaves)
    for index, leaf in enumerate(leaves):
        theirs = tree.prove_inclusion(index + 1)
        assert theirs.path == [leaf, *prove_inclusion(leaves, index)]
        assert root_from_inclusion(leaf, index, size, theirs.path[1:]) == tree.get_root()


@given(proofs(), st.data())
def test_pymerkle_accepts_our_proofs_and_refuses_changed_ones(made, draw):
    import pymerkle

    leaves, index, proof = made
    place = draw.draw(st.integers(0, len(proof)))

    def verify(hashes):
        sides = [int(is_left) for is_left in path_sides(index, len(leaves))]
        metadata = {"algorithm": "sha256", "security": True, "size": len(leaves), "index": index + 1}
        path = [each.hex() for each in hashes]
        rule = [*sides, 0]  # the root itself stands on no side
        data = {"type": "inclusion", "metadata": metadata, "rule": rule, "path": path}
        theirs = pymerkle.InclusionProof.deserialize(data)
        pymerkle.verify_inclusion(leaves[index], tree_root(leaves), theirs, index=index + 1, size=len(leaves))

    hashes = [leaves[index], *proof]
    verify(hashes)
    hashes[place] = flip_bit(hashes[place], 7)
    with pytest.raises(pymerkle.InvalidProof):
        verify(hashes)


def verify_with_sigstore(data, index, size, proof, root):
    """Its check on an entry of Rekor's log, of which it reads no more than this."""
    from sigstore._internal.merkle import verify_merkle_inclusion

    claim = SimpleNamespace(log_index=index, tree_size=size, hashes=proof, root_hash=root)
    verify_merkle_inclusion(SimpleNamespace(_inner=SimpleNamespace(inclusion_proof=claim, canonicalized_body=data)))


@pytest.mark.parametrize("size", SIZES)
def test_sigstore_accepts_our_proofs(size):
    leaves = make_leaves(size)
    for index in range(size):
        proof = prove_inclusion(leaves, index)
        verify_with_sigstore(str(index).encode(), index, size, proof, tree_root(leaves))


@given(entries, st.data())
def test_sigstore_and_ours_accept_the_same_claims(data, draw):
    from sigstore.errors import VerificationError

    leaves = [hash_leaf(each) for each in data]
    index = draw.draw(st.integers(0, len(data) - 1))
    claimed_index = draw.draw(st.sampled_from([index, index + 1, index ^ 1, index ^ 2]))
    claimed_size = draw.draw(st.sampled_from([len(data), len(data) + 1, len(data) * 2]))
    proof, root = prove_inclusion(leaves, index), tree_root(leaves)
    try:
        verify_with_sigstore(data[index], claimed_index, claimed_size, proof, root)
        accepted = claimed_index < claimed_size  # sigstore checks this where it reads the claim
    except VerificationError:
        accepted = False
    assert leads_to(root, leaves[index], claimed_index, claimed_size, proof) == accepted
