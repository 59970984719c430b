"""The PyFlink functions: the one package of udfs that needs Flink."""
