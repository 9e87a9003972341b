"""The tokens of a CEL text, as far as they have to be told apart before or beside the engine that evaluates it."""

import re
from dataclasses import dataclass
from enum import Enum, auto


class TokenKind(Enum):
    """What a token is; MARK is an operator, a bracket or anything that isn't known."""

    NAME = auto()
    NUMBER = auto()
    STRING = auto()
    MARK = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """One token and where it lies in the text: `text[start:end]`."""

    kind: TokenKind
    text: str
    start: int
    end: int


_TOKEN = re.compile(
    r"""
    (?P<skip> \s+ | //[^\n]* )
  | (?P<STRING> [rRbB]{0,2} (?: \"\"\" (?s:.*?) \"\"\" | ''' (?s:.*?) ''' | "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*' ) )
  | (?P<NAME> [A-Za-z_][A-Za-z0-9_]* )
  | (?P<NUMBER> 0[xX][0-9a-fA-F]+[uU]? | (?:[0-9]+\.[0-9]+ | \.[0-9]+)(?:[eE][+-]?[0-9]+)? | [0-9]+(?:[eE][+-]?[0-9]+|[uU])? )
  | (?P<MARK> && | \|\| | == | != | <= | >= | . )
    """,
    re.VERBOSE,
)


def tokenize(text: str) -> list[Token]:
    """Cut a text into tokens without white space and comments. Never fails: what isn't known is a MARK of one character."""
    tokens: list[Token] = []
    for found in _TOKEN.finditer(text):
        kind = found.lastgroup
        if kind is not None and kind != "skip":
            tokens.append(Token(TokenKind[kind], found.group(), found.start(), found.end()))
    return tokens
