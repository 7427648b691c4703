"""Control: decide purely what to do about a workspace; act elsewhere."""
