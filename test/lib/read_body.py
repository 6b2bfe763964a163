#!/usr/bin/env python3
"""Read a body on standard input by Python's own parser of its type, and print
what it says as JSON: a number of a JSON body as "n:" and its digits, an XML
element as [name, attributes, text, elements], a form as its pairs."""

import json
import sys
import urllib.parse
import xml.etree.ElementTree


def element(node):
    return [node.tag, node.attrib, node.text, [element(child) for child in node]]


def no_duplicates(pairs):
    names = [name for name, value in pairs]
    if len(names) != len(set(names)):
        raise ValueError("a name twice: %s" % names)
    return dict(pairs)


def main():
    body = sys.stdin.buffer.read()
    kind = sys.argv[1]
    if kind in ("json", "jsonarray"):
        digits = lambda text: "n:" + text
        value = json.loads(body.decode("utf-8"), parse_int=digits, parse_float=digits, object_pairs_hook=no_duplicates)
    elif kind == "xml":
        value = element(xml.etree.ElementTree.fromstring(body))
    else:
        value = urllib.parse.parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=True)
    print(json.dumps(value))


main()
